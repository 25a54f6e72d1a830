/* replay.c - runs a target where there is no libFuzzer.
 *
 *   replay MUTATIONS FILE...    each file, and so many changed ones of each, always the same
 *
 * Prints "FILES files, MUTATIONS mutations, ACCEPTED accepted, REFUSED refused". */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

enum { MAX_LEN = 1 << 16, ROOM = 512 };

static uint64_t rng = 1;

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max) {
  if (size == 0 || fuzz_random(&rng, 8) == 0) { /* one more */
    if (size == max) return size;
    size_t at = fuzz_random(&rng, size + 1);
    memmove(data + at + 1, data + at, size - at);
    data[at] = (uint8_t)fuzz_random(&rng, 256);
    return size + 1;
  }
  size_t at = fuzz_random(&rng, size);
  switch (fuzz_random(&rng, 4)) {
    case 0:
      data[at] = (uint8_t)fuzz_random(&rng, 256);
      return size;
    case 1:
      data[at] ^= (uint8_t)(1u << fuzz_random(&rng, 8));
      return size;
    case 2:
      data[at] = (uint8_t)(data[at] + fuzz_random(&rng, 3) - 1);
      return size;
    default: /* the rest away, or one */
      if (fuzz_random(&rng, 4) == 0) return at;
      memmove(data + at, data + at + 1, size - at - 1);
      return size - 1;
  }
}

static void run(const uint8_t *data, size_t size) {
  pth_bytes exact = fuzz_block(data, size);
  LLVMFuzzerTestOneInput(exact.data, size);
  free((void *)(uintptr_t)exact.data);
}

int main(int argc, char **argv) {
  static uint8_t original[MAX_LEN], changed[MAX_LEN + ROOM];
  unsigned long n_mutations = argc > 1 ? strtoul(argv[1], NULL, 10) : 0, n_run = 0;
  for (int i = 2; i < argc; i++) {
    FILE *f = fopen(argv[i], "rb");
    if (f == NULL) return perror(argv[i]), 2;
    size_t size = fread(original, 1, MAX_LEN, f), now = size;
    fclose(f);
    run(original, size);
    for (unsigned long k = 0; k < n_mutations; k++, n_run++) {
      if (k % 4 == 0) memcpy(changed, original, now = size); /* else one change more */
      now = LLVMFuzzerCustomMutator(changed, now, size + ROOM,
                                    (unsigned)(rng = rng * 6364136223846793005u + 1442695040888963407u, rng >> 32));
      run(changed, now);
    }
  }
  printf("%d files, %lu mutations, %llu accepted, %llu refused\n", argc > 2 ? argc - 2 : 0, n_run, (unsigned long long)fuzz_n_accepted,
         (unsigned long long)fuzz_n_refused);
  return 0;
}

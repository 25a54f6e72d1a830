#include "cpu.h"

#include <stdint.h>

const char *const pth_isa_names[PTH_N_ISAS] = {"baseline", "avx2", "avx512"};

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
static void cpuid(uint32_t leaf, uint32_t r[4]) { __cpuidex((int *)r, (int)leaf, 0); }
static uint64_t xgetbv0(void) { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(uint32_t leaf, uint32_t r[4]) { __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]); }
static uint64_t xgetbv0(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}
#endif

/* Bits of cpuid (Intel's manual, volume 2, CPUID) and of XCR0 (volume 1, 13.3). */
enum {
  EBX = 1,
  ECX = 2,
  FMA = 1 << 12, /* leaf 1, ecx */
  OSXSAVE = 1 << 27,
  F16C = 1 << 29,
  AVX2 = 1 << 5, /* leaf 7, ebx */
  AVX512F = 1 << 16,
  AVX512DQ = 1 << 17,
  AVX512BW = 1 << 30,
  XCR0_AVX = 0x6,
  XCR0_AVX512 = 0xe6
};
static const uint32_t AVX512VL = 1u << 31;

enum pth_isa pth_cpu_best(void) {
  uint32_t r[4], leaf1, leaf7;
  cpuid(0, r);
  if (r[0] < 7) return PTH_ISA_BASELINE;
  cpuid(1, r);
  leaf1 = r[ECX];
  cpuid(7, r);
  leaf7 = r[EBX];
  if (!(leaf1 & OSXSAVE) || !(leaf1 & FMA) || !(leaf1 & F16C) || !(leaf7 & AVX2) || (xgetbv0() & XCR0_AVX) != XCR0_AVX)
    return PTH_ISA_BASELINE;
  if ((leaf7 & AVX512F) && (leaf7 & AVX512DQ) && (leaf7 & AVX512BW) && (leaf7 & AVX512VL) && (xgetbv0() & XCR0_AVX512) == XCR0_AVX512)
    return PTH_ISA_AVX512;
  return PTH_ISA_AVX2;
}
#else
enum pth_isa pth_cpu_best(void) { return PTH_ISA_BASELINE; }
#endif

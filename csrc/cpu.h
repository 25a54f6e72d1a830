/* cpu.h - which instruction sets this processor and its system can run. Asked once, by who starts; never kept here. */
#ifndef PTH_CPU_H
#define PTH_CPU_H

/* From poor to rich. The first is what the compiler takes for granted: SSE2 on x86-64, NEON on arm64, plain C elsewhere. */
enum pth_isa { PTH_ISA_BASELINE, PTH_ISA_AVX2, PTH_ISA_AVX512, PTH_N_ISAS };

extern const char *const pth_isa_names[PTH_N_ISAS];

/* The richest one, by cpuid; and by xgetbv, since the system must keep the registers too. */
enum pth_isa pth_cpu_best(void);

#endif

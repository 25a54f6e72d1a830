/* What both seams include. */
#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-parameter" /* in what Cython generates below */
#endif

/* Under abi3 Cython imports inspect for the values of these flags, and inspect imports half of the compiler: 5 ms of every start. They have not
 * changed since Python 2, and where a header has them that is what counts. */
#if CYTHON_COMPILING_IN_LIMITED_API
static int seam_code_flags(void) {
#ifndef CO_OPTIMIZED
  CO_OPTIMIZED = 0x1;
#endif
#ifndef CO_NEWLOCALS
  CO_NEWLOCALS = 0x2;
#endif
#ifndef CO_VARARGS
  CO_VARARGS = 0x4;
#endif
#ifndef CO_VARKEYWORDS
  CO_VARKEYWORDS = 0x8;
#endif
#ifndef CO_GENERATOR
  CO_GENERATOR = 0x20;
#endif
#ifndef CO_COROUTINE
  CO_COROUTINE = 0x80;
#endif
#ifndef CO_ASYNC_GENERATOR
  CO_ASYNC_GENERATOR = 0x200;
#endif
  return 1;
}
#define __Pyx_init_co_variables() (seam_code_flags() ? 0 : __Pyx_init_co_variables())
#endif

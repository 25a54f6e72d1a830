/* AVX-512 F, DQ, BW and VL. */
#include "kernel.h"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,f16c")
#endif
#include <immintrin.h>

typedef __m512 F;
typedef __m512d D;
enum { FL = 16, DL = 8 };
INLINE F f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, F x) { _mm512_storeu_ps(p, x); }
INLINE F f_set(float x) { return _mm512_set1_ps(x); }
INLINE F f_min(F x, F y) { return _mm512_min_ps(x, y); }
INLINE F f_max(F x, F y) { return _mm512_max_ps(x, y); }
INLINE F f_abs(F x) { return _mm512_abs_ps(x); }
INLINE D d_load(const double *p) { return _mm512_loadu_pd(p); }
INLINE D d_floats(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
INLINE D d_halves(const uint16_t *p) { return _mm512_cvtps_pd(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p))); }
INLINE D d_brains(const uint16_t *p) {
  __m256i codes = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
  return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(codes, 16)));
}
INLINE void d_store(double *p, D x) { _mm512_storeu_pd(p, x); }
INLINE D d_set(double x) { return _mm512_set1_pd(x); }
INLINE D d_add(D x, D y) { return _mm512_add_pd(x, y); }
INLINE D d_sub(D x, D y) { return _mm512_sub_pd(x, y); }
INLINE D d_mul(D x, D y) { return _mm512_mul_pd(x, y); }
INLINE D d_div(D x, D y) { return _mm512_div_pd(x, y); }
INLINE D d_abs(D x) { return _mm512_abs_pd(x); }
INLINE D d_min(D x, D y) { return _mm512_min_pd(x, y); }
INLINE D d_max(D x, D y) { return _mm512_max_pd(x, y); }
INLINE D d_add_square(D q, D d) { return _mm512_fmadd_pd(d, d, q); }
INLINE D d_plus(D s, D d) { return _mm512_fmadd_pd(d, _mm512_set1_pd(1.0), s); }

#define ONE_LOOP 1
#define KERNEL pth_kernel_avx512
#include "kernel_body.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

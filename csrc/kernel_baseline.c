/* What the compiler takes for granted: SSE2, NEON, or plain C. */
#include "kernel.h"

#if defined(__x86_64__) || defined(_M_X64)
#include <emmintrin.h>
typedef __m128 F;
typedef __m128d D;
enum { FL = 4, DL = 2 };
INLINE F f_load(const float *p) { return _mm_loadu_ps(p); }
INLINE void f_store(float *p, F x) { _mm_storeu_ps(p, x); }
INLINE F f_set(float x) { return _mm_set1_ps(x); }
INLINE F f_min(F x, F y) { return _mm_min_ps(x, y); }
INLINE F f_max(F x, F y) { return _mm_max_ps(x, y); }
INLINE F f_abs(F x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x); }
INLINE D d_load(const double *p) { return _mm_loadu_pd(p); }
INLINE D d_floats(const float *p) { return _mm_cvtps_pd(_mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)p))); }
INLINE __m128i two_codes(const uint16_t *p) { return _mm_cvtsi32_si128((int)((uint32_t)p[1] << 16 | p[0])); }
INLINE D d_brains(const uint16_t *p) { return _mm_cvtps_pd(_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), two_codes(p)))); }
INLINE D d_halves(const uint16_t *p) {
  /* as pth_half */
  __m128i h = _mm_unpacklo_epi16(two_codes(p), _mm_setzero_si128()), code = _mm_and_si128(h, _mm_set1_epi32(0x7fff));
  __m128i special = _mm_and_si128(_mm_cmpgt_epi32(code, _mm_set1_epi32(0x7bff)), _mm_set1_epi32(0x7f800000));
  __m128 value = _mm_mul_ps(_mm_castsi128_ps(_mm_slli_epi32(code, 13)), _mm_castsi128_ps(_mm_set1_epi32(0x77800000)));
  __m128i sign = _mm_slli_epi32(_mm_andnot_si128(_mm_set1_epi32(0x7fff), h), 16);
  return _mm_cvtps_pd(_mm_or_ps(value, _mm_castsi128_ps(_mm_or_si128(sign, special))));
}
INLINE void d_store(double *p, D x) { _mm_storeu_pd(p, x); }
INLINE D d_set(double x) { return _mm_set1_pd(x); }
INLINE D d_add(D x, D y) { return _mm_add_pd(x, y); }
INLINE D d_sub(D x, D y) { return _mm_sub_pd(x, y); }
INLINE D d_mul(D x, D y) { return _mm_mul_pd(x, y); }
INLINE D d_div(D x, D y) { return _mm_div_pd(x, y); }
INLINE D d_abs(D x) { return _mm_andnot_pd(_mm_set1_pd(-0.0), x); }
INLINE D d_min(D x, D y) { return _mm_min_pd(x, y); }
INLINE D d_max(D x, D y) { return _mm_max_pd(x, y); }
#elif defined(__aarch64__) || defined(_M_ARM64)
#include <arm_neon.h>
typedef float32x4_t F;
typedef float64x2_t D;
enum { FL = 4, DL = 2 };
INLINE F f_load(const float *p) { return vld1q_f32(p); }
INLINE void f_store(float *p, F x) { vst1q_f32(p, x); }
INLINE F f_set(float x) { return vdupq_n_f32(x); }
INLINE F f_min(F x, F y) { return vminq_f32(x, y); }
INLINE F f_max(F x, F y) { return vmaxq_f32(x, y); }
INLINE F f_abs(F x) { return vabsq_f32(x); }
INLINE D d_load(const double *p) { return vld1q_f64(p); }
INLINE D d_floats(const float *p) { return vcvt_f64_f32(vld1_f32(p)); }
INLINE D d_halves(const uint16_t *p) { return (D){(double)pth_half(p[0]), (double)pth_half(p[1])}; }
INLINE D d_brains(const uint16_t *p) { return (D){(double)pth_brain(p[0]), (double)pth_brain(p[1])}; }
INLINE void d_store(double *p, D x) { vst1q_f64(p, x); }
INLINE D d_set(double x) { return vdupq_n_f64(x); }
INLINE D d_add(D x, D y) { return vaddq_f64(x, y); }
INLINE D d_sub(D x, D y) { return vsubq_f64(x, y); }
INLINE D d_mul(D x, D y) { return vmulq_f64(x, y); }
INLINE D d_div(D x, D y) { return vdivq_f64(x, y); }
INLINE D d_abs(D x) { return vabsq_f64(x); }
INLINE D d_min(D x, D y) { return vminq_f64(x, y); }
INLINE D d_max(D x, D y) { return vmaxq_f64(x, y); }
#else
#include <math.h>
typedef float F;
typedef double D;
enum { FL = 1, DL = 1 };
INLINE F f_load(const float *p) { return *p; }
INLINE void f_store(float *p, F x) { *p = x; }
INLINE F f_set(float x) { return x; }
INLINE F f_min(F x, F y) { return x < y ? x : y; }
INLINE F f_max(F x, F y) { return x > y ? x : y; }
INLINE F f_abs(F x) { return fabsf(x); }
INLINE D d_load(const double *p) { return *p; }
INLINE D d_floats(const float *p) { return (double)*p; }
INLINE D d_halves(const uint16_t *p) { return (double)pth_half(*p); }
INLINE D d_brains(const uint16_t *p) { return (double)pth_brain(*p); }
INLINE void d_store(double *p, D x) { *p = x; }
INLINE D d_set(double x) { return x; }
INLINE D d_add(D x, D y) { return x + y; }
INLINE D d_sub(D x, D y) { return x - y; }
INLINE D d_mul(D x, D y) { return x * y; }
INLINE D d_div(D x, D y) { return x / y; }
INLINE D d_abs(D x) { return fabs(x); }
INLINE D d_min(D x, D y) { return x < y ? x : y; }
INLINE D d_max(D x, D y) { return x > y ? x : y; }
#endif
INLINE D d_add_square(D q, D d) { return d_add(q, d_mul(d, d)); }
INLINE D d_plus(D s, D d) { return d_add(s, d); }

#define ONE_LOOP 0
#define KERNEL pth_kernel_baseline
#include "kernel_body.h"

const pth_kernel *pth_kernel_of(enum pth_isa isa) {
#if defined(__x86_64__) || defined(_M_X64)
  if (isa == PTH_ISA_AVX512) return &pth_kernel_avx512;
  if (isa == PTH_ISA_AVX2) return &pth_kernel_avx2;
#endif
  return isa == PTH_ISA_BASELINE ? &pth_kernel_baseline : 0;
}

/* philox.h: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)
 * and what is drawn from it. Every draw is a function of (key, index) alone, and is the same bits
 * on every machine: files that draw normals are compiled without contraction of a*b+c. */
#ifndef VESTIGE_PHILOX_H
#define VESTIGE_PHILOX_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* Block `index` of the stream `key`: four words. */
void philox_block(uint32_t word[4], uint64_t key, uint64_t index);
/* Element i of a draw that starts at block `offset`. A draw of n elements uses (n + 3) / 4 blocks,
 * of n 64-bit words (n + 1) / 2. */
uint32_t philox_word(uint64_t key, uint64_t offset, uint64_t i);
uint64_t philox_word64(uint64_t key, uint64_t offset, uint64_t i);
double philox_uniform(uint64_t key, uint64_t offset, uint64_t i); /* 53 bits, [0,1); 2 a block */
double philox_normal(uint64_t key, uint64_t offset, uint64_t i);  /* Box-Muller; 4 a block */
void philox_normal4(double out[4], uint64_t key, uint64_t index);
/* Uniform in 0 .. n-1 from one 64-bit word. */
static inline uint64_t philox_below(uint64_t word, uint64_t n) {
    return (uint64_t)(((unsigned __int128)word * n) >> 64);
}

/* ---- The formulas, in a form that compilers turn into vectors ---- */

/* The ten rounds on a block; w holds the counter, then the words. */
static inline void philox_rounds(uint32_t w[4], uint32_t k0, uint32_t k1) {
    uint32_t c0 = w[0], c1 = w[1], c2 = w[2], c3 = w[3];
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    w[0] = c0;
    w[1] = c1;
    w[2] = c2;
    w[3] = c3;
}

/* log x for 0 < x < 1: x = 2^e m with m near 1, log m = 2 atanh((m-1)/(m+1)). */
static inline double philox_log(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    uint64_t fraction = bits & 0xFFFFFFFFFFFFF;
    uint64_t large = (fraction + 0x95F6199810C32) >> 52; /* 1 where m would be above sqrt(2) */
    uint64_t exponent = (bits >> 52) + large, scaled = fraction | (1023 - large) << 52;
    exponent |= 0x4330000000000000; /* the last bits of the double 2^52 + exponent */
    double e, m;
    memcpy(&e, &exponent, 8);
    memcpy(&m, &scaled, 8);
    e -= 0x1p52 + 1023.0;
    double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 1.0 / 23;
    sum = sum * z + 1.0 / 21;
    sum = sum * z + 1.0 / 19;
    sum = sum * z + 1.0 / 17;
    sum = sum * z + 1.0 / 15;
    sum = sum * z + 1.0 / 13;
    sum = sum * z + 1.0 / 11;
    sum = sum * z + 1.0 / 9;
    sum = sum * z + 1.0 / 7;
    sum = sum * z + 1.0 / 5;
    sum = sum * z + 1.0 / 3;
    sum = sum * z + 1.0;
    return e * 0.6931471805599453 + 2.0 * s * sum;
}

/* cos and sin of 2 pi u for 0 <= u < 1, by Taylor series on an eighth of the circle. */
static inline void philox_circle(double u, double *cosine, double *sine) {
    double quarter = (u * 4.0 + 0x1.8p52) - 0x1.8p52; /* rounded: 0 to 4 */
    double a = (u - quarter * 0.25) * 6.283185307179586, z = a * a;
    double c = 1.0 - z * (1.0 / 306), s = 1.0 - z * (1.0 / 342);
    c = 1.0 - z * (1.0 / 240) * c, s = 1.0 - z * (1.0 / 272) * s;
    c = 1.0 - z * (1.0 / 182) * c, s = 1.0 - z * (1.0 / 210) * s;
    c = 1.0 - z * (1.0 / 132) * c, s = 1.0 - z * (1.0 / 156) * s;
    c = 1.0 - z * (1.0 / 90) * c, s = 1.0 - z * (1.0 / 110) * s;
    c = 1.0 - z * (1.0 / 56) * c, s = 1.0 - z * (1.0 / 72) * s;
    c = 1.0 - z * (1.0 / 30) * c, s = 1.0 - z * (1.0 / 42) * s;
    c = 1.0 - z * (1.0 / 12) * c, s = 1.0 - z * (1.0 / 20) * s;
    c = 1.0 - z * (1.0 / 2) * c, s = 1.0 - z * (1.0 / 6) * s;
    s *= a;
    double odd = fabs(fabs(quarter - 2.0) - 1.0); /* 0 for quarters 1 and 3, else 1 */
    double x = odd < 0.5 ? s : c, y = odd < 0.5 ? c : s;
    *cosine = fabs(quarter - 1.5) < 1.0 ? -x : x;
    *sine = fabs(quarter - 2.5) < 1.0 ? -y : y;
}

/* Two independent normals from two words. */
static inline void philox_box_muller(uint32_t w0, uint32_t w1, double *x, double *y) {
    double u = ((double)w0 + 0.5) * 0x1p-32, v = (double)w1 * 0x1p-32;
    double r = sqrt(-2.0 * philox_log(u)), c, s;
    philox_circle(v, &c, &s);
    *x = r * c;
    *y = r * s;
}

#endif

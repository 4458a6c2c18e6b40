/* philox.c: the generator, uniforms and normals, and the streams' keys.
 * Compiled without contraction of a*b+c, so that every machine computes the same bits. */
#include <math.h>
#include <string.h>
#include "core/core.h"
#include "core/philox.h"

vestige_stream current_stream = { 0x5eedull, 0 };

void vestige_philox(uint32_t word[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
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
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

void philox_block(uint32_t word[4], uint64_t key, uint64_t index) {
    uint32_t counter[4] = { (uint32_t)index, (uint32_t)(index >> 32), 0, 0 };
    uint32_t k[2] = { (uint32_t)key, (uint32_t)(key >> 32) };
    vestige_philox(word, counter, k);
}

uint32_t philox_word(uint64_t key, uint64_t offset, uint64_t i) {
    uint32_t w[4];
    philox_block(w, key, offset + i / 4);
    return w[i % 4];
}

uint64_t philox_word64(uint64_t key, uint64_t offset, uint64_t i) {
    uint32_t w[4];
    philox_block(w, key, offset + i / 2);
    return (uint64_t)w[i % 2 * 2 + 1] << 32 | w[i % 2 * 2];
}

double philox_uniform(uint64_t key, uint64_t offset, uint64_t i) {
    return (double)(philox_word64(key, offset, i) >> 11) * 0x1p-53;
}

/* log x for 0 < x < 1: x = 2^e m with m near 1, log m = 2 atanh((m-1)/(m+1)). */
static double log_unit(double x) {
    uint64_t bits;
    memcpy(&bits, &x, 8);
    int e = (int)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFull) | 0x3FF0000000000000ull;
    double m;
    memcpy(&m, &bits, 8);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        e++;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, sum = 0.0;
    for (int k = 23; k >= 1; k -= 2)
        sum = sum * z + 1.0 / (double)k;
    return (double)e * 0.6931471805599453 + 2.0 * s * sum;
}

/* cos and sin of 2 pi u for 0 <= u < 1, by Taylor series on an eighth of the circle. */
static void circle(double u, double *cosine, double *sine) {
    int quarter = (int)(u * 4.0 + 0.5);
    double a = (u - (double)quarter * 0.25) * 6.283185307179586, z = a * a;
    double c = 1.0, s = 1.0;
    for (int k = 18; k >= 2; k -= 2) {
        c = 1.0 - c * z / (double)(k * (k - 1));
        s = 1.0 - s * z / (double)(k * (k + 1));
    }
    s *= a;
    switch (quarter & 3) {
    case 0:
        *cosine = c, *sine = s;
        break;
    case 1:
        *cosine = -s, *sine = c;
        break;
    case 2:
        *cosine = -c, *sine = -s;
        break;
    default:
        *cosine = s, *sine = -c;
    }
}

void philox_normal4(double out[4], uint64_t key, uint64_t index) {
    uint32_t w[4];
    philox_block(w, key, index);
    for (int k = 0; k < 4; k += 2) {
        double u = ((double)w[k] + 0.5) * 0x1p-32, v = (double)w[k + 1] * 0x1p-32;
        double r = sqrt(-2.0 * log_unit(u)), c, s;
        circle(v, &c, &s);
        out[k] = r * c;
        out[k + 1] = r * s;
    }
}

double philox_normal(uint64_t key, uint64_t offset, uint64_t i) {
    double n[4];
    philox_normal4(n, key, offset + i / 4);
    return n[i % 4];
}

/* FNV-1a over the name, then one block keyed by the seed: near names and seeds give far keys. */
uint64_t vestige_stream_key(uint64_t seed, const char *name) {
    uint64_t h = 0xcbf29ce484222325ull;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
    uint32_t w[4];
    philox_block(w, seed, h);
    return (uint64_t)w[1] << 32 | w[0];
}

int vestige_stream_get(vestige_stream *s) {
    *s = current_stream;
    return VESTIGE_OK;
}

int vestige_stream_set(const vestige_stream *s) {
    current_stream = *s;
    return VESTIGE_OK;
}

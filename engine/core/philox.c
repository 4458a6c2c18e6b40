/* philox.c: the generator, uniforms and normals, and the streams' keys.
 * Compiled without contraction of a*b+c, so that every machine computes the same bits. */
#include <string.h>
#include "core/core.h"
#include "core/philox.h"

vestige_stream current_stream = { 0x5eedull, 0 };

void vestige_philox(uint32_t word[4], const uint32_t counter[4], const uint32_t key[2]) {
    memcpy(word, counter, 4 * sizeof *word);
    philox_rounds(word, key[0], key[1]);
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

void philox_normal4(double out[4], uint64_t key, uint64_t index) {
    uint32_t w[4];
    philox_block(w, key, index);
    philox_box_muller(w[0], w[1], &out[0], &out[1]);
    philox_box_muller(w[2], w[3], &out[2], &out[3]);
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

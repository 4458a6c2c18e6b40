/* philox.h: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011)
 * and what is drawn from it. Every draw is a function of (key, index) alone, and is the same bits
 * on every machine. */
#ifndef VESTIGE_PHILOX_H
#define VESTIGE_PHILOX_H

#include <stdint.h>

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

#endif

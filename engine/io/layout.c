/* layout.c: how elements in a file differ from those in memory. */
#include <string.h>
#include "io/io.h"

/* Tiles of 16 x 16 keep both sides in cache: a convolution's weight has rows far apart. */
enum { TILE = 16 };

#define TRANSPOSE(type)                                                                            \
    static void transpose_##type(type *dst, const type *src, int64_t rows, int64_t columns) {      \
        for (int64_t r0 = 0; r0 < rows; r0 += TILE)                                                \
            for (int64_t c0 = 0; c0 < columns; c0 += TILE)                                         \
                for (int64_t r = r0; r < rows && r < r0 + TILE; r++)                               \
                    for (int64_t c = c0; c < columns && c < c0 + TILE; c++)                        \
                        dst[c * rows + r] = src[r * columns + c];                                  \
    }
TRANSPOSE(uint8_t)
TRANSPOSE(uint16_t)
TRANSPOSE(uint32_t)
TRANSPOSE(uint64_t)

void transpose_all(void *dst, const void *src, int64_t n, int64_t rows, int64_t columns, int size) {
    int64_t step = rows * columns * size;
    for (int64_t i = 0; i < n; i++) {
        void *to = (char *)dst + i * step;
        const void *from = (const char *)src + i * step;
        switch (size) {
        case 1:
            transpose_uint8_t(to, from, rows, columns);
            break;
        case 2:
            transpose_uint16_t(to, from, rows, columns);
            break;
        case 4:
            transpose_uint32_t(to, from, rows, columns);
            break;
        default:
            transpose_uint64_t(to, from, rows, columns);
        }
    }
}

void half_to_float(float *dst, const uint16_t *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t sign = (uint32_t)(src[i] >> 15) << 31;
        uint32_t exponent = src[i] >> 10 & 31, fraction = src[i] & 1023;
        if (exponent == 0) { /* zero and subnormal: fraction * 2^-24 is exact in f32 */
            dst[i] = (float)fraction * 0x1p-24f;
            if (sign)
                dst[i] = -dst[i];
            continue;
        }
        uint32_t bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
        memcpy(&dst[i], &bits, 4);
    }
}

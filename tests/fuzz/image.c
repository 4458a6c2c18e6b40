/* Decodes any bytes as an image; the first tells the number of channels. The sums in a PNG are set
 * right first, or no changed one would get any further. */
#include <string.h>
#include <zlib.h>
#include "fuzz.h"

static void set_sums(uint8_t *p, size_t bytes) {
    for (size_t at = 8, n; at + 12 <= bytes; at += 12 + n) {
        n = (size_t)p[at] << 24 | (size_t)p[at + 1] << 16 | (size_t)p[at + 2] << 8 | p[at + 3];
        if (n > bytes - at - 12)
            return;
        uint32_t sum = (uint32_t)crc32_z(0, p + at + 4, n + 4);
        for (int i = 0; i < 4; i++)
            p[at + 8 + n + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes < 9)
        return 0;
    uint8_t *copy = malloc(bytes - 1);
    memcpy(copy, data + 1, bytes - 1);
    if (copy[0] == 0x89)
        set_sums(copy, bytes - 1);
    vestige_tensor t;
    if (vestige_image_decode(&t, copy, (int64_t)bytes - 1, data[0] % 5) >= 0)
        look_and_release(&t);
    free(copy);
    return none_is_left();
}

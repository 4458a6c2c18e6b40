/* image_check.c: walks through the chunks of a PNG and the segments of a JPEG before stb sees them.
 */
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include "io/image.h"

static uint32_t word(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool check_png(image *im, const uint8_t *p, int64_t bytes) {
    for (int64_t at = 8, n; at < bytes; at += 12 + n) {
        n = at + 12 <= bytes ? word(p + at) : 0;
        if (at + 12 + n > bytes)
            return no_image(im, "truncated: the file ends inside a chunk");
        const uint8_t *chunk = p + at + 4;
        if (word(chunk + 4 + n) != crc32_z(0, chunk, (size_t)n + 4)) {
            snprintf(im->error, sizeof im->error,
                     "damaged: the sum of the chunk at byte %lld is wrong", (long long)at);
            return false;
        }
        if (memcmp(chunk, "IEND", 4) == 0)
            return true;
    }
    return no_image(im, "truncated: the last chunk is missing");
}

/* A segment of Huffman tables, each 17 bytes and a byte a code. stb 2.27 writes past the end of its
 * table when there are more than 256 codes. */
static bool check_tables(image *im, const uint8_t *p, int64_t bytes) {
    while (bytes > 0) {
        int64_t codes = 0;
        for (int i = 1; i <= 16 && i < bytes; i++)
            codes += p[i];
        if (codes > 256 || bytes < 17 + codes)
            return no_image(im, "damaged: a Huffman table does not fit its segment");
        p += 17 + codes;
        bytes -= 17 + codes;
    }
    return true;
}

/* Looks at every marker that stb can come to: it skips what is no marker between segments, and in a
 * scan's data only stuffed and restart markers, as is done here. */
bool check_jpeg(image *im, const uint8_t *p, int64_t bytes) {
    int64_t at = 2;
    for (;;) {
        while (at < bytes && p[at] != 0xFF)
            at++;
        while (at < bytes && p[at] == 0xFF)
            at++;
        if (at == bytes)
            return no_image(im, "truncated: the end marker is missing");
        int marker = p[at++];
        if (marker == 0xD9) /* the end */
            return true;
        if (marker == 0 || (marker >= 0xD0 && marker <= 0xD7))
            continue;
        int64_t n = at + 2 <= bytes ? p[at] << 8 | p[at + 1] : 0;
        if (n < 2 || at + n > bytes)
            return no_image(im, "truncated or damaged: a segment has no room for its length");
        if (marker == 0xC4 && !check_tables(im, p + at + 2, n - 2))
            return false;
        at += n;
    }
}

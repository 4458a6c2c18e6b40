/* image.h: what one image and many images share. */
#ifndef VESTIGE_IMAGE_H
#define VESTIGE_IMAGE_H

#include "io/io.h"

enum { MAX_PIXELS = 1 << 28, MAX_IMAGE_FILE = 1 << 30 };

typedef struct image {
    uint8_t *pixels; /* height, width, channels; freed by image_free */
    int height, width, channels;
    char error[128];
} image;

/* Both work on worker threads too: false, with the reason in im->error. */
bool image_decode(image *im, const void *data, int64_t bytes, int channels);
bool image_load(image *im, const char *path, int channels);
void image_free(image *im);
bool no_image(image *im, const char *reason); /* keeps the reason; false */
/* What stb leaves unchecked, from the whole file: damage, a missing end, and tables that it would
 * write past. */
bool check_png(image *im, const uint8_t *p, int64_t bytes);
bool check_jpeg(image *im, const uint8_t *p, int64_t bytes);
int check_channels(int channels);

#endif

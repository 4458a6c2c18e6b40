/* image.c: PNG and JPEG to tensors, tensors to PNG, by stb_image. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "io/image.h"
#include "../third_party/stb.h"

bool no_image(image *im, const char *reason) {
    snprintf(im->error, sizeof im->error, "%s", reason);
    return false;
}

/* The size that the header claims: decoding asks for that much memory. */
static bool check_size(image *im, int64_t bytes) {
    if (im->width > STBI_MAX_DIMENSIONS || im->height > STBI_MAX_DIMENSIONS ||
        (int64_t)im->width * im->height > MAX_PIXELS) {
        snprintf(im->error, sizeof im->error,
                 "size: %d x %d pixels, expected at most %d a side and %d in all", im->width,
                 im->height, STBI_MAX_DIMENSIONS, MAX_PIXELS);
        return false;
    }
    /* A byte of PNG makes at most 1,032 bytes of 8 pixels; a JPEG block of 64 pixels takes at least
     * one bit. */
    if ((int64_t)im->width * im->height / 8256 > bytes) {
        snprintf(im->error, sizeof im->error, "size: %lld bytes cannot hold %d x %d pixels",
                 (long long)bytes, im->width, im->height);
        return false;
    }
    return true;
}

bool image_decode(image *im, const void *data, int64_t bytes, int channels) {
    static const uint8_t png[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n' };
    *im = (image){ 0 };
    if (bytes > MAX_IMAGE_FILE)
        return no_image(im, "larger than 1 GiB");
    if (bytes == 0)
        return no_image(im, "empty");
    bool is_png = bytes >= 8 && memcmp(data, png, 8) == 0;
    if (!is_png && (bytes < 3 || memcmp(data, "\xFF\xD8\xFF", 3) != 0))
        return no_image(im, "neither PNG nor JPEG");
    if (!(is_png ? check_png(im, data, bytes) : check_jpeg(im, data, bytes)))
        return false;
    /* Where this fails, so does loading, and that keeps the reason. */
    int found;
    stb_budget = 1 << 20;
    if (stbi_info_from_memory(data, (int)bytes, &im->width, &im->height, &found) &&
        !check_size(im, bytes))
        return false;
    /* A pixel takes at most 16 bytes on the way; lists grow by doubling. */
    stb_budget += 32 * (size_t)im->width * (size_t)im->height + 2 * (size_t)bytes;
    im->pixels = stbi_load_from_memory(data, (int)bytes, &im->width, &im->height, &found, channels);
    if (!im->pixels)
        return no_image(im, stbi_failure_reason());
    im->channels = channels ? channels : found;
    return true;
}

bool image_load(image *im, const char *path, int channels) {
    *im = (image){ 0 };
    source s;
    int error = source_open_quiet(&s, path);
    if (error) {
        snprintf(im->error, sizeof im->error, "cannot read: %s", source_error(error));
        return false;
    }
    void *data = s.size <= MAX_IMAGE_FILE ? malloc((size_t)s.size + 1) : NULL;
    bool ok = false;
    if (s.size > MAX_IMAGE_FILE)
        no_image(im, "larger than 1 GiB");
    else if (!data)
        no_image(im, "out of memory");
    else if ((error = source_read_quiet(s.fd, data, s.size, 0)) != 0)
        snprintf(im->error, sizeof im->error, "cannot read: %s",
                 error == -1 ? "the file became shorter" : source_error(error));
    else
        ok = image_decode(im, data, s.size, channels);
    free(data);
    source_close(&s);
    return ok;
}

void image_free(image *im) {
    stbi_image_free(im->pixels);
    im->pixels = NULL;
}

int check_channels(int channels) {
    if (channels < 0 || channels > 4)
        return fail(VESTIGE_EVALUE,
                    "image: channels: expected 1 to 4, or 0 for as many as the "
                    "image has, got %d",
                    channels);
    return VESTIGE_OK;
}

static int give_image(vestige_tensor *out, image *im) {
    int64_t dim[] = { im->height, im->width, im->channels };
    T t;
    int status = tensor_new(&t, VESTIGE_U8, VESTIGE_CPU, 3, dim);
    if (status >= 0)
        copy_in_at(t, 0, im->pixels, t->numel);
    image_free(im);
    return status < 0 ? status : handle_out(out, t);
}

int vestige_image_read(vestige_tensor *out, const char *path, int channels) {
    clear_error();
    TRY(check_channels(channels));
    image im;
    if (!image_load(&im, path, channels))
        return fail(VESTIGE_EIO, "%s: image: %s", path, im.error);
    return give_image(out, &im);
}

int vestige_image_decode(vestige_tensor *out, const void *data, int64_t bytes, int channels) {
    clear_error();
    TRY(check_channels(channels));
    image im;
    if (!image_decode(&im, data, bytes, channels))
        return fail(VESTIGE_EIO, "image: %s", im.error);
    return give_image(out, &im);
}

/* ---- PNG ---- */
typedef struct png {
    void *data;
    int64_t bytes;
} png;

static void keep_png(void *context, void *data, int bytes) {
    png *p = context;
    p->data = malloc((size_t)bytes);
    if (p->data)
        memcpy(p->data, data, (size_t)bytes);
    p->bytes = bytes;
}

static uint8_t to_byte(double v) {
    return v <= 0 ? 0 : v >= 1 ? 255 : (uint8_t)(v * 255 + 0.5);
}

/* The elements as bytes, in scratch that the caller frees; floats count from 0 to 1. */
static int pixels_of(const tensor *t, uint8_t *pixels) {
    if (t->dtype == VESTIGE_U8) {
        copy_out_at(t, 0, pixels, t->numel);
        return VESTIGE_OK;
    }
    int size = dtype_size(t->dtype);
    union {
        float f[512];
        double d[512];
        uint16_t h[512];
    } part;
    for (int64_t i = 0; i < t->numel; i += 512) {
        int64_t n = t->numel - i < 512 ? t->numel - i : 512;
        copy_out_at(t, i * size, &part, n * size);
        for (int64_t j = 0; j < n; j++) {
            double v = t->dtype == VESTIGE_F32 ? (double)part.f[j] : part.d[j];
            if (t->dtype == VESTIGE_BF16) {
                uint32_t bits = (uint32_t)part.h[j] << 16;
                float f;
                memcpy(&f, &bits, 4);
                v = f;
            }
            if (v != v)
                return fail(VESTIGE_EVALUE, "image: element %lld is not a number",
                            (long long)(i + j + 1));
            pixels[i + j] = to_byte(v);
        }
    }
    return VESTIGE_OK;
}

static int encode(png *p, const vestige_tensor *h) {
    T t = handle_in(h, "image");
    if (!t)
        return error_pending();
    int64_t channels = t->ndim == 3 ? t->dim[2] : 1;
    if ((t->ndim != 2 && t->ndim != 3) || channels < 1 || channels > 4 || t->dim[0] < 1 ||
        t->dim[1] < 1)
        return fail(VESTIGE_ESHAPE, "image: expected height, width and 1 to 4 channels, got %s",
                    describe(t));
    if (t->dim[0] > STBI_MAX_DIMENSIONS || t->dim[1] > STBI_MAX_DIMENSIONS || t->numel > MAX_PIXELS)
        return fail(VESTIGE_ESHAPE, "image: %s is too large: expected at most %d a side",
                    describe(t), STBI_MAX_DIMENSIONS);
    if (t->dtype != VESTIGE_U8 && !is_float(t->dtype))
        return fail(VESTIGE_ETYPE, "image: expected u8, or a float type from 0 to 1, got %s",
                    describe(t));
    void *pixels;
    TRY(alloc_scratch(&pixels, t->numel));
    int status = pixels_of(t, pixels);
    *p = (png){ 0 };
    if (status >= 0) {
        int ok = stbi_write_png_to_func(keep_png, p, (int)t->dim[1], (int)t->dim[0], (int)channels,
                                        pixels, (int)(t->dim[1] * channels));
        if (!ok || !p->data)
            status = fail(VESTIGE_EMEMORY, "out of memory: a PNG of %s", describe(t));
    }
    free_scratch(pixels, t->numel);
    return status;
}

int vestige_image_encode(vestige_tensor *out, const vestige_tensor *h) {
    clear_error();
    png p;
    TRY(encode(&p, h));
    T t;
    int status = tensor_new(&t, VESTIGE_U8, VESTIGE_CPU, 1, &p.bytes);
    if (status >= 0)
        copy_in_at(t, 0, p.data, p.bytes);
    free(p.data);
    return status < 0 ? status : handle_out(out, t);
}

int vestige_image_write(const char *path, const vestige_tensor *h) {
    clear_error();
    const char *dot = strrchr(path, '.');
    if (!dot || strcasecmp(dot, ".png") != 0)
        return fail(VESTIGE_EVALUE,
                    "%s: images are written as PNG: expected a name that ends in "
                    ".png",
                    path);
    png p;
    TRY(encode(&p, h));
    sink s;
    int status = sink_open(&s, path);
    if (status >= 0) {
        status = sink_write(&s, p.data, p.bytes);
        if (status < 0)
            sink_abort(&s);
        else
            status = sink_commit(&s);
    }
    free(p.data);
    return status;
}

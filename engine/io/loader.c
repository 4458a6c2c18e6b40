/* loader.c: batches of a data set's column, made ahead by threads of their own.
 *
 * A loader holds the column in plain memory. In a pass its threads take the number of the next
 * batch, fill a free slot of a ring and mark it ready; the caller takes the slots in order. What a
 * batch holds depends on the pass alone: the draws of an augmentation count by (key, epoch, id), so
 * neither the number of threads nor how far ahead they are matters. The threads touch no tensor,
 * no allocator and no OpenMP. Start with fill and work. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include "core/core.h"
#include "core/philox.h"

enum { MAX_LOADERS = 64, AHEAD = 2 }; /* slots beyond one a thread */

typedef struct slot {
    char *data;  /* (batch, row) as it goes out */
    char *image; /* one row as it is in the column */
    bool ready;
} slot;

struct vestige_loader {
    /* The column: rows of `row` elements of `size` bytes; images have height, width, channels. */
    char *data;
    int64_t bytes, rows, row, height, width, channels;
    int32_t dtype, size, out_size, ndim;
    int64_t dim[VESTIGE_MAXDIM];
    /* The pass. Written only while no thread is busy. */
    vestige_pass pass;
    int64_t *order, *ids, batches;
    /* The ring, and what the lock guards: batches claimed by threads, given to the caller. */
    slot slots[MAX_LOADERS + AHEAD];
    int nslots, nthreads, busy;
    int64_t slot_bytes, claimed, given;
    bool quit;
    pthread_t thread[MAX_LOADERS];
    pthread_mutex_t lock;
    pthread_cond_t work, ready;
};

/* ---- One row: moved, and bytes made numbers ---- */

/* Where an image is moved to: output (y,x) shows (y + dy, x + dx) of the image, zeros outside it.
 */
typedef struct placing {
    int64_t dy, dx;
    float fy, fx; /* fractions of a pixel on top, 0 <= f < 1 */
    bool flip;
} placing;

static float one_way(uint32_t word, double shift) {
    return (float)(((double)word * 0x1p-31 - 1.0) * shift);
}

static placing draw(const vestige_pass *p, int64_t id) {
    placing at = { 0 };
    uint32_t w[4], key[2] = { (uint32_t)p->key, (uint32_t)(p->key >> 32) };
    uint32_t counter[4] = { (uint32_t)id, (uint32_t)((uint64_t)id >> 32), (uint32_t)p->epoch, 0 };
    vestige_philox(w, counter, key);
    at.flip = p->flip && w[0] >> 31;
    if (p->crop) {
        uint64_t places = 2 * (uint64_t)p->crop + 1;
        at.dy = (int64_t)philox_below((uint64_t)w[1] << 32, places) - p->crop;
        at.dx = (int64_t)philox_below((uint64_t)w[2] << 32, places) - p->crop;
    }
    if (p->shift > 0) {
        counter[3] = 1;
        vestige_philox(w, counter, key);
        float sy = one_way(w[0], p->shift), sx = one_way(w[1], p->shift);
        int64_t iy = (int64_t)sy - (sy < 0), ix = (int64_t)sx - (sx < 0);
        at.dy += iy;
        at.dx += ix;
        at.fy = sy - (float)iy;
        at.fx = sx - (float)ix;
    }
    return at;
}

/* dst, src (H,W,C): whole pixels, of any type. */
static void place(const vestige_loader *l, char *dst, const char *src, const placing *at) {
    int64_t pixel = l->channels * l->size, line = l->width * pixel;
    int64_t from = at->dx < 0 ? -at->dx : 0, to = l->width - (at->dx > 0 ? at->dx : 0);
    for (int64_t y = 0; y < l->height; y++, dst += line) {
        int64_t sy = y + at->dy;
        bool inside = sy >= 0 && sy < l->height && from < to;
        if (!inside || from > 0 || to < l->width)
            memset(dst, 0, (size_t)line);
        if (!inside)
            continue;
        const char *s = src + sy * line + (from + at->dx) * pixel;
        if (!at->flip) {
            memcpy(dst + from * pixel, s, (size_t)((to - from) * pixel));
            continue;
        }
        for (int64_t x = from; x < to; x++, s += pixel)
            memcpy(dst + (l->width - 1 - x) * pixel, s, (size_t)pixel);
    }
}

/* The same with a fraction of a pixel, bilinear; src and dst are f32. */
static void blend(const vestige_loader *l, float *dst, const float *src, const placing *at) {
    int64_t h = l->height, w = l->width, c = l->channels;
    for (int64_t y = 0; y < h; y++) {
        for (int64_t x = 0; x < w; x++, dst += c) {
            int64_t column = at->flip ? w - 1 - x : x;
            for (int64_t k = 0; k < c; k++)
                dst[k] = 0;
            for (int corner = 0; corner < 4; corner++) {
                int64_t sy = y + at->dy + (corner >> 1), sx = column + at->dx + (corner & 1);
                if (sy < 0 || sy >= h || sx < 0 || sx >= w)
                    continue;
                float weight =
                    (corner >> 1 ? at->fy : 1 - at->fy) * (corner & 1 ? at->fx : 1 - at->fx);
                for (int64_t k = 0; k < c; k++)
                    dst[k] += weight * src[(sy * w + sx) * c + k];
            }
        }
    }
}

static void bytes_to_numbers(float *dst, const uint8_t *src, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        dst[i] = (float)src[i] / 255.0f;
}

static void make_row(const vestige_loader *l, char *dst, int64_t row, int64_t id, char *image) {
    const vestige_pass *p = &l->pass;
    const char *src = l->data + row * l->row * l->size;
    bool u8 = l->dtype == VESTIGE_U8;
    if (!p->crop && !p->flip && !(p->shift > 0)) {
        if (u8)
            bytes_to_numbers((float *)dst, (const uint8_t *)src, l->row);
        else
            memcpy(dst, src, (size_t)(l->row * l->size));
        return;
    }
    placing at = draw(p, id);
    if (p->shift > 0) {
        if (u8)
            bytes_to_numbers((float *)image, (const uint8_t *)src, l->row);
        blend(l, (float *)dst, (const float *)(u8 ? image : src), &at);
        return;
    }
    place(l, u8 ? image : dst, src, &at);
    if (u8)
        bytes_to_numbers((float *)dst, (const uint8_t *)image, l->row);
}

static int64_t batch_rows(const vestige_loader *l, int64_t i) {
    int64_t left = l->pass.count - i * l->pass.batch;
    return left < l->pass.batch ? left : l->pass.batch;
}

static void fill(const vestige_loader *l, int64_t i, const slot *s) {
    int64_t n = batch_rows(l, i), at = i * l->pass.batch;
    for (int64_t k = 0; k < n; k++)
        make_row(l, s->data + k * l->row * l->out_size, l->order[at + k], l->ids[at + k], s->image);
}

/* ---- The threads ---- */

static void *work(void *arg) {
    vestige_loader *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (!l->quit && !(l->claimed < l->batches && l->claimed < l->given + l->nslots))
            pthread_cond_wait(&l->work, &l->lock);
        if (l->quit)
            break;
        int64_t i = l->claimed++;
        slot *s = &l->slots[i % l->nslots];
        l->busy++;
        pthread_mutex_unlock(&l->lock);
        fill(l, i, s);
        pthread_mutex_lock(&l->lock);
        l->busy--;
        s->ready = true;
        pthread_cond_broadcast(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Ends the pass: when this returns no thread is busy and none will start. */
static void halt(vestige_loader *l) {
    pthread_mutex_lock(&l->lock);
    l->batches = 0;
    while (l->busy)
        pthread_cond_wait(&l->ready, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

/* Signals go to the caller's thread. A thread that does not start is done without. */
static void start_threads(vestige_loader *l, int n) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (l->nthreads < n && pthread_create(&l->thread[l->nthreads], NULL, work, l) == 0)
        l->nthreads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- The caller's side ---- */

static void free_pass(vestige_loader *l) {
    size_t bytes = (size_t)l->pass.count * sizeof(int64_t);
    block_free(l->order, bytes);
    block_free(l->ids, bytes);
    l->order = l->ids = NULL;
    l->pass.count = 0;
}

static int64_t image_bytes(const vestige_loader *l) {
    return l->row * (l->size > 4 ? l->size : 4);
}

static void free_slots(vestige_loader *l) {
    for (int i = 0; i < COUNT(l->slots); i++) {
        block_free(l->slots[i].data, (size_t)l->slot_bytes);
        block_free(l->slots[i].image, (size_t)image_bytes(l));
        l->slots[i] = (slot){ 0 };
    }
    l->slot_bytes = 0;
}

void vestige_loader_free(vestige_loader *l) {
    if (!l)
        return;
    halt(l);
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->nthreads; i++)
        pthread_join(l->thread[i], NULL);
    free_pass(l);
    free_slots(l);
    block_free(l->data, (size_t)l->bytes);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->ready);
    block_free(l, sizeof *l);
}

int vestige_loader_new(vestige_loader **out, const vestige_tensor *x, int threads) {
    clear_error();
    T t = handle_in(x, "loader");
    if (!t)
        return error_pending();
    if (t->ndim < 1)
        return fail(VESTIGE_ESHAPE, "loader: expected a column of rows, got %s", describe(t));
    if (threads < 0 || threads > MAX_LOADERS)
        return fail(VESTIGE_EVALUE, "loader: loaders: expected 0 to %d, got %d", MAX_LOADERS,
                    threads);
    vestige_loader *l = block_alloc(sizeof *l);
    if (!l)
        return error_pending();
    *l = (vestige_loader){ .rows = t->dim[0],
                           .ndim = t->ndim,
                           .dtype = t->dtype,
                           .size = dtype_size(t->dtype),
                           .row = product(t->ndim - 1, t->dim + 1) };
    l->out_size = l->dtype == VESTIGE_U8 ? 4 : l->size;
    memcpy(l->dim, t->dim, sizeof l->dim);
    if (t->ndim == 4) {
        l->height = t->dim[1];
        l->width = t->dim[2];
        l->channels = t->dim[3];
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    l->bytes = t->numel * l->size;
    l->data = block_alloc((size_t)l->bytes);
    int status = l->data ? vestige_to_data(x, l->data, l->bytes) : error_pending();
    if (status < 0) {
        vestige_loader_free(l);
        return status;
    }
    start_threads(l, threads);
    l->nslots = l->nthreads + (l->nthreads ? AHEAD : 1);
    *out = l;
    return VESTIGE_OK;
}

static int check_pass(const vestige_loader *l, const vestige_pass *p) {
    if (p->count < 0 || p->batch < 1)
        return fail(VESTIGE_EVALUE, "loader: batch_size: expected at least 1, got %lld",
                    (long long)p->batch);
    for (int64_t i = 0; i < p->count; i++)
        if (p->rows[i] < 0 || p->rows[i] >= l->rows)
            return fail(VESTIGE_EVALUE, "loader: row %lld: expected 1 to %lld",
                        (long long)p->rows[i] + 1, (long long)l->rows);
    bool moves = p->crop || p->flip || p->shift != 0;
    if (moves && l->ndim != 4)
        return fail(VESTIGE_ESHAPE, "loader: augment: expected images (N,H,W,C), got %s",
                    shape_text(l->ndim, l->dim));
    if (p->crop < 0 || !(p->shift >= 0) || p->crop > 1 << 20 || p->shift > 1 << 20)
        return fail(VESTIGE_EVALUE, "loader: augment: crop and shift count pixels, from 0");
    if (p->shift > 0 && l->dtype != VESTIGE_U8 && l->dtype != VESTIGE_F32)
        return fail(VESTIGE_ETYPE, "loader: augment: shift takes u8 or f32, got %s",
                    vestige_dtype_name(l->dtype));
    return VESTIGE_OK;
}

/* The slots hold a batch each; they are kept from pass to pass. */
static int make_slots(vestige_loader *l, int64_t bytes) {
    if (bytes <= l->slot_bytes)
        return VESTIGE_OK;
    free_slots(l);
    l->slot_bytes = bytes;
    for (int i = 0; i < l->nslots; i++) {
        slot *s = &l->slots[i];
        s->data = block_alloc((size_t)bytes);
        s->image = s->data ? block_alloc((size_t)image_bytes(l)) : NULL;
        if (!s->image) {
            free_slots(l);
            return error_pending();
        }
    }
    return VESTIGE_OK;
}

int vestige_loader_start(vestige_loader *l, const vestige_pass *p) {
    clear_error();
    halt(l);
    TRY(check_pass(l, p));
    int64_t most = p->batch < p->count ? p->batch : p->count;
    TRY(make_slots(l, most * l->row * l->out_size));
    free_pass(l);
    size_t bytes = (size_t)p->count * sizeof(int64_t);
    int64_t *order = block_alloc(bytes), *ids = order ? block_alloc(bytes) : NULL;
    if (!ids) {
        block_free(order, bytes);
        return error_pending();
    }
    memcpy(order, p->rows, bytes);
    memcpy(ids, p->ids ? p->ids : p->rows, bytes);
    pthread_mutex_lock(&l->lock);
    l->pass = *p;
    l->pass.rows = l->pass.ids = NULL;
    l->order = order;
    l->ids = ids;
    l->claimed = l->given = 0;
    l->batches = (p->count + p->batch - 1) / p->batch;
    for (int i = 0; i < l->nslots; i++)
        l->slots[i].ready = false;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return VESTIGE_OK;
}

/* Waits until the slot is filled; looks at the interrupt flag meanwhile. */
static int wait_for(vestige_loader *l, slot *s) {
    pthread_mutex_lock(&l->lock);
    while (!s->ready && !interrupted()) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 50 * 1000 * 1000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&l->ready, &l->lock, &until);
    }
    bool ready = s->ready;
    pthread_mutex_unlock(&l->lock);
    return ready ? VESTIGE_OK : fail(VESTIGE_EINTERRUPTED, "interrupted");
}

int vestige_loader_next(vestige_loader *l, vestige_tensor *out) {
    clear_error();
    *out = (vestige_tensor){ 0 };
    if (l->given >= l->batches) /* only this thread changes them */
        return VESTIGE_OK;
    slot *s = &l->slots[l->given % l->nslots];
    if (l->nthreads)
        TRY(wait_for(l, s));
    else
        fill(l, l->given, s);
    int64_t dim[VESTIGE_MAXDIM];
    memcpy(dim, l->dim, sizeof dim);
    dim[0] = batch_rows(l, l->given);
    int dtype = l->dtype == VESTIGE_U8 ? VESTIGE_F32 : l->dtype;
    int status = vestige_from_data(out, dtype, VESTIGE_CPU, l->ndim, dim, s->data,
                                   dim[0] * l->row * l->out_size);
    if (status < 0)
        return status; /* the batch stays ready, to be asked for again */
    pthread_mutex_lock(&l->lock);
    s->ready = false;
    l->given++;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return status;
}

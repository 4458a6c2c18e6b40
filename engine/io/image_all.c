/* image_all.c: many images of one size, decoded on threads of their own into one tensor.
 *
 * The first image is decoded alone and tells the size. The workers then take the next number until
 * none is left; whatever their order, the error reported is that of the first bad image. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "io/image.h"

typedef struct job {
    const char *const *paths;
    int count, channels; /* as asked for; 0: those of the first */
    image first;
    T t;
    atomic_int next;
    atomic_int bad; /* the lowest number that failed, or count */
    pthread_mutex_t lock;
    char error[128]; /* of `bad`, under the lock */
} job;

static void report(job *j, int i, const char *error) {
    pthread_mutex_lock(&j->lock);
    if (i < j->bad) {
        j->bad = i;
        snprintf(j->error, sizeof j->error, "%s", error);
    }
    pthread_mutex_unlock(&j->lock);
}

static bool fits(const job *j, image *im) {
    const image *f = &j->first;
    if (im->height == f->height && im->width == f->width && im->channels == f->channels)
        return true;
    snprintf(im->error, sizeof im->error,
             "%d x %d with %d channels, but the first image is %d x %d with %d%s", im->height,
             im->width, im->channels, f->height, f->width, f->channels,
             im->channels != f->channels ? " (the option channels makes them equal)" : "");
    return false;
}

static void *work(void *arg) {
    job *j = arg;
    int64_t bytes = (int64_t)j->first.height * j->first.width * j->first.channels;
    /* Numbers are given out in order, so all below a bad one are done by someone. */
    for (int i; (i = j->next++) < j->bad;) {
        if (interrupted())
            break;
        image im;
        if (image_load(&im, j->paths[i], j->channels) && fits(j, &im))
            copy_in_at(j->t, i * bytes, im.pixels, bytes);
        else
            report(j, i, im.error);
        image_free(&im);
    }
    return NULL;
}

static void run_workers(job *j, int workers) {
    enum { MAX_WORKERS = 64 };
    pthread_t thread[MAX_WORKERS];
    int started = 0;
    workers = workers > MAX_WORKERS ? MAX_WORKERS : workers;
    while (started < workers - 1 && pthread_create(&thread[started], NULL, work, j) == 0)
        started++;
    work(j); /* this thread works too, alone when no other could be started */
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}

int vestige_image_read_all(vestige_tensor *out, int n, const char *const *paths, int channels,
                           int workers) {
    clear_error();
    TRY(check_channels(channels));
    if (n < 1)
        return fail(VESTIGE_EVALUE, "images: expected at least one file");
    if (workers < 0)
        return fail(VESTIGE_EVALUE, "images: workers: expected 0 or more, got %d", workers);
    job j = { .paths = paths, .count = n, .channels = channels, .next = 0, .bad = n };
    if (!image_load(&j.first, paths[0], channels))
        return fail(VESTIGE_EIO, "%s: image: %s", paths[0], j.first.error);
    image_free(&j.first);
    int64_t dim[] = { n, j.first.height, j.first.width, j.first.channels };
    TRY(tensor_new(&j.t, VESTIGE_U8, VESTIGE_CPU, 4, dim));
    pthread_mutex_init(&j.lock, NULL);
    run_workers(&j, workers ? workers : threads());
    pthread_mutex_destroy(&j.lock);
    int status = VESTIGE_OK;
    if (j.bad < n)
        status = fail(VESTIGE_EIO, "%s: image: %s", paths[j.bad], j.error);
    else if (interrupted())
        status = fail(VESTIGE_EINTERRUPTED, "interrupted");
    if (status < 0) {
        tensor_unref(j.t);
        return status;
    }
    return handle_out(out, j.t);
}

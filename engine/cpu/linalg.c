/* linalg.c: matmul and linear in f32 and bf16, by the packed product of gemm.c. */
#include "cpu/f32.h"
#include "cpu/half.h"
#include "ops/product.h"

enum {
    SMALL = 8192,      /* multiplications below which packing costs more than it saves */
    BIG = 500000,      /* from here on gemm shares one product among threads */
    PARALLEL = 1 << 16 /* multiplications of a batch from which a second thread pays */
};

/* c (m,n) = op(a) op(b) + bias: no packing but b's transpose. */
static void small_product(float *restrict c, const float *restrict a, const float *b,
                          const struct cpu_gemm *g) {
    float turned[SMALL];
    if (g->tb) {
        for (int64_t j = 0; j < g->n; j++)
            for (int64_t k = 0; k < g->k; k++)
                turned[k * g->n + j] = b[j * g->ldb + k];
        b = turned;
    }
    for (int64_t i = 0; i < g->m; i++, c += g->ldc) {
        if (g->bias)
            memcpy(c, g->bias, (size_t)g->n * 4);
        else
            memset(c, 0, (size_t)g->n * 4);
        for (int64_t k = 0; k < g->k; k++) {
            float x = g->ta ? a[k * g->lda + i] : a[i * g->lda + k];
            const float *restrict row = b + k * g->n;
            for (int64_t j = 0; j < g->n; j++)
                c[j] += x * row[j];
        }
    }
}

static struct cpu_gemm gemm_of(const matrix_product *p, const tensor *bias, bool half) {
    return (struct cpu_gemm){ .m = p->m,
                              .n = p->n,
                              .k = p->k,
                              .lda = p->ta ? p->m : p->k,
                              .ldb = p->tb ? p->k : p->n,
                              .ldc = p->n,
                              .ta = p->ta,
                              .tb = p->tb,
                              .half = half,
                              .bias = bias ? bias->data : NULL };
}

/* The products of a batch run in turn, each shared among threads if it is big; or the batch is
 * shared. */
static int batch_workers(const matrix_product *p) {
    int64_t work = p->m * p->n * p->k, count = p->batch.count;
    return count > 1 && work < BIG && work * count >= PARALLEL ? threads() : 1;
}

/* One product of a batch, into y from a and b, with scratch of the worker. */
typedef struct batch_job {
    int (*product)(const struct batch_job *job, void *y, const void *a, const void *b,
                   void *scratch);
    struct cpu_gemm g;
    int workers, size; /* bytes of an element */
    int64_t scratch;   /* of a worker */
} batch_job;

static int run_batch(const call *c, const matrix_product *p, const batch_job *job) {
    char *y = c->out[0]->data;
    const char *a = c->in[0]->data, *b = c->in[1]->data;
    int64_t count = p->batch.count, size = job->size;
    int workers = job->workers;
    void *scratch = NULL;
    if (job->scratch)
        TRY(alloc_scratch(&scratch, job->scratch * workers));
    bool stopped = false;
#pragma omp parallel for num_threads(workers) schedule(static)
    for (int w = 0; w < workers; w++)
        for (int64_t i = count * w / workers; i < count * (w + 1) / workers; i++) {
            int64_t a0, b0;
            batch_at(&p->batch, i, &a0, &b0);
            if (!stopped &&
                job->product(job, y + i * p->m * p->n * size, a + a0 * size, b + b0 * size,
                             (char *)scratch + w * job->scratch) != CPU_OK)
                stopped = true;
        }
    if (scratch)
        free_scratch(scratch, job->scratch * workers);
    return stopped ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int small_one(const batch_job *job, void *y, const void *a, const void *b, void *scratch) {
    (void)scratch;
    small_product(y, a, b, &job->g);
    return CPU_OK;
}

static int packed_one(const batch_job *job, void *y, const void *a, const void *b, void *scratch) {
    return K(cpu_gemm)(y, a, b, &job->g, scratch);
}

static int products(const call *c, const matrix_product *p, const tensor *bias) {
    if (p->m * p->n * p->batch.count == 0)
        return VESTIGE_OK;
    bool small = p->m * p->n * p->k <= SMALL && p->k * p->n <= SMALL;
    batch_job job = { .product = small ? small_one : packed_one,
                      .g = gemm_of(p, bias, false),
                      .workers = batch_workers(p),
                      .size = 4 };
    job.scratch = small ? 0 : K(cpu_gemm_scratch)(&job.g);
    return run_batch(c, p, &job);
}

static int matmul(const call *c) {
    matrix_product p;
    TRY(matmul_product(c, &p));
    return products(c, &p, NULL);
}

static int linear(const call *c) {
    matrix_product p;
    linear_product(c, &p);
    return products(c, &p, c->in[2]);
}

/* ---- bf16: too small a product is not worth a path of its own ---- */
static int half_products(const call *c, const matrix_product *p, const tensor *bias) {
    if (p->m * p->n * p->batch.count == 0)
        return VESTIGE_OK;
    batch_job job = {
        .product = packed_one, .g = gemm_of(p, bias, true), .workers = batch_workers(p), .size = 2
    };
    job.scratch = K(cpu_gemm_scratch)(&job.g);
    return run_batch(c, p, &job);
}

static int matmul_bf16(const call *c) {
    matrix_product p;
    TRY(matmul_product(c, &p));
    return half_products(c, &p, NULL);
}

static int linear_bf16(const call *c) {
    matrix_product p;
    linear_product(c, &p);
    return half_products(c, &p, c->in[2]);
}

const kernel_row K(cpu_linalg)[] = {
    { "matmul", VESTIGE_F32, matmul },
    { "matmul", VESTIGE_BF16, matmul_bf16 },
    { "linear", VESTIGE_F32, linear },
    { "linear", VESTIGE_BF16, linear_bf16 },
    { 0 },
};

/* linalg.c: matmul and linear in f32 and bf16, by the packed product of gemm.c. */
#include "cpu/f32.h"
#include "cpu/half.h"
#include "ops/product.h"

enum {
    SMALL = 8192,       /* multiplications below which packing costs more than it saves */
    BIG = 500000,       /* from here on gemm shares one product among threads */
    PARALLEL = 1 << 16, /* multiplications of a batch from which a second thread pays */
    WIDE =
        1 << 20,   /* f32 sums of a product in bf16 that wait to be rounded, and the rows of them */
    FEW_ROWS = 384 /* that it takes for packing to cost little */
};

/* c (m,n) = op(a) op(b), or added to c: no packing but b's transpose. */
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
        if (!g->add)
            memset(c, 0, (size_t)g->n * 4);
        for (int64_t k = 0; k < g->k; k++) {
            float x = g->ta ? a[k * g->lda + i] : a[i * g->lda + k];
            const float *restrict row = b + k * g->n;
            for (int64_t j = 0; j < g->n; j++)
                c[j] += x * row[j];
        }
    }
}

static struct cpu_gemm gemm_of(const matrix_product *p, bool add, bool half) {
    return (struct cpu_gemm){ .m = p->m,
                              .n = p->n,
                              .k = p->k,
                              .lda = p->ta ? p->m : p->k,
                              .ldb = p->tb ? p->k : p->n,
                              .ldc = p->n,
                              .ta = p->ta,
                              .tb = p->tb,
                              .add = add,
                              .half = half };
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
    int64_t m;            /* of the whole product; bf16 takes g.m rows at a time */
    const uint16_t *bias; /* (n) of bf16, or NULL */
    int workers, size;    /* bytes of an element */
    int64_t scratch;      /* of a worker */
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

static int products(const call *c, const matrix_product *p, bool add) {
    if (p->m * p->n * p->batch.count == 0)
        return VESTIGE_OK;
    bool small = p->m * p->n * p->k <= SMALL && p->k * p->n <= SMALL;
    batch_job job = { .product = small ? small_one : packed_one,
                      .g = gemm_of(p, add, false),
                      .workers = batch_workers(p),
                      .size = 4 };
    job.scratch = small ? 0 : K(cpu_gemm_scratch)(&job.g);
    return run_batch(c, p, &job);
}

static int matmul(const call *c) {
    matrix_product p;
    TRY(matmul_product(c, &p));
    return products(c, &p, false);
}

static int linear(const call *c) {
    matrix_product p;
    linear_product(c, &p);
    if (c->in[2])
        for (int64_t i = 0; i < p.m; i++)
            memcpy((float *)c->out[0]->data + i * p.n, c->in[2]->data, (size_t)p.n * 4);
    return products(c, &p, c->in[2] != NULL);
}

/* ---- bf16: sums in f32, some rows of one product at a time, then rounded ---- */
static int64_t sums_bytes(const struct cpu_gemm *g) {
    return (g->m * g->n * 4 + 63) / 64 * 64;
}

static int half_one(const batch_job *job, void *out, const void *left, const void *b,
                    void *scratch) {
    struct cpu_gemm g = job->g;
    uint16_t *y = out;
    const uint16_t *a = left;
    float *sums = scratch;
    int code = CPU_OK;
    for (int64_t i = 0; i < job->m && code == CPU_OK; i += job->g.m) {
        g.m = job->m - i < job->g.m ? job->m - i : job->g.m;
        for (int64_t r = 0; r < g.m && job->bias; r++)
            widen(sums + r * g.n, job->bias, g.n);
        code = K(cpu_gemm)(sums, a + i * (g.ta ? 1 : g.lda), b, &g,
                           (char *)scratch + sums_bytes(&job->g));
        if (job->workers == 1) /* rounding is shared among threads */
            K(cpu_to_bf16)(y + i * g.n, sums, g.m * g.n);
        else
            narrow(y + i * g.n, sums, g.m * g.n);
    }
    return code;
}

static int half_products(const call *c, const matrix_product *p, const tensor *bias) {
    if (p->m * p->n * p->batch.count == 0)
        return VESTIGE_OK;
    batch_job job = { .product = half_one,
                      .g = gemm_of(p, bias != NULL, true),
                      .m = p->m,
                      .bias = bias ? (const uint16_t *)bias->data : NULL,
                      .workers = batch_workers(p),
                      .size = 2 };
    int64_t rows = WIDE / p->n < FEW_ROWS ? FEW_ROWS : WIDE / p->n;
    job.g.m = p->m < rows ? p->m : rows;
    job.scratch = sums_bytes(&job.g) + K(cpu_gemm_scratch)(&job.g);
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

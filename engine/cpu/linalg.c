/* linalg.c: matmul and linear in f32, by the packed product of gemm.c. */
#include "cpu/f32.h"
#include "ops/product.h"

enum {
    SMALL = 8192,      /* multiplications below which packing costs more than it saves */
    BIG = 500000,      /* from here on gemm shares one product among threads */
    PARALLEL = 1 << 16 /* multiplications of a batch from which a second thread pays */
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

/* The products of a batch in turn, each shared among threads if it is big; or the batch shared. */
static int products(const call *c, const matrix_product *p, bool add) {
    struct cpu_gemm g = { .m = p->m,
                          .n = p->n,
                          .k = p->k,
                          .lda = p->ta ? p->m : p->k,
                          .ldb = p->tb ? p->k : p->n,
                          .ldc = p->n,
                          .ta = p->ta,
                          .tb = p->tb,
                          .add = add };
    float *y = (float *)c->out[0]->data;
    const float *a = (const float *)c->in[0]->data, *b = (const float *)c->in[1]->data;
    int64_t work = p->m * p->n * p->k, count = p->batch.count;
    if (p->m * p->n * count == 0)
        return VESTIGE_OK;
    bool small = work <= SMALL && p->k * p->n <= SMALL;
    int workers = count > 1 && work < BIG && work * count >= PARALLEL ? threads() : 1;
    int64_t each = small ? 0 : K(cpu_gemm_scratch)(&g);
    void *scratch = NULL;
    if (each)
        TRY(alloc_scratch(&scratch, each * workers));
    bool stopped = false;
#pragma omp parallel for num_threads(workers) schedule(static)
    for (int w = 0; w < workers; w++)
        for (int64_t i = count * w / workers; i < count * (w + 1) / workers; i++) {
            int64_t a0, b0;
            batch_at(&p->batch, i, &a0, &b0);
            float *to = y + i * p->m * p->n;
            if (small)
                small_product(to, a + a0, b + b0, &g);
            else if (!stopped &&
                     K(cpu_gemm)(to, a + a0, b + b0, &g, (char *)scratch + w * each) != CPU_OK)
                stopped = true;
        }
    if (each)
        free_scratch(scratch, each * workers);
    return stopped ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
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

const kernel_row K(cpu_linalg)[] = {
    { "matmul", VESTIGE_F32, matmul },
    { "linear", VESTIGE_F32, linear },
    { 0 },
};

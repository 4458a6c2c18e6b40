/* sort.c: orders and running sums, at speed. x is (outer, n, inner); a row of n elements is
 * read as items: the element as an unsigned number of the same order in the upper 32 bits, its
 * place in the lower. All items differ, so any way of sorting them is stable. */
#include "cpu/half.h"

enum { PARALLEL = 1 << 14, SMALL = 32, RADIX = 2048, DIGIT = 11 };

typedef struct rows {
    int64_t outer, n, inner;
} rows;

static rows rows_of(const tensor *x, double dim) {
    if (isnan(dim) || x->ndim == 0)
        return (rows){ 1, x->numel, 1 };
    int d = (int)dim;
    return (rows){ product(d, x->dim), x->dim[d], product(x->ndim - d - 1, x->dim + d + 1) };
}

/* The order of numbers as unsigned ones: 0 and -0 are equal, every NaN is the largest. */
static inline uint32_t key_of(float f) {
    uint32_t u;
    f += 0.0f;
    memcpy(&u, &f, 4);
    u ^= u >> 31 ? 0xffffffffu : 0x80000000u;
    return f == f ? u : 0xffffffffu;
}

static void read_items(uint64_t *item, const float *x, int64_t n, int64_t step, bool descending) {
    uint32_t turn = descending ? 0xffffffffu : 0;
    for (int64_t i = 0; i < n; i++)
        item[i] = (uint64_t)(key_of(x[i * step]) ^ turn) << 32 | (uint32_t)i;
}

static void sort_small(uint64_t *item, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        uint64_t v = item[i];
        int64_t k = i;
        for (; k > 0 && item[k - 1] > v; k--)
            item[k] = item[k - 1];
        item[k] = v;
    }
}

/* Three passes of eleven bits of the key, from the lowest; a pass that would move nothing is left
 * out. Returns the array that holds the result. */
static uint64_t *sort_items(uint64_t *item, uint64_t *other, int64_t n) {
    if (n <= SMALL) {
        sort_small(item, n);
        return item;
    }
    uint32_t count[3][RADIX] = { 0 };
    for (int64_t i = 0; i < n; i++) {
        uint32_t key = (uint32_t)(item[i] >> 32);
        count[0][key & (RADIX - 1)]++;
        count[1][key >> DIGIT & (RADIX - 1)]++;
        count[2][key >> 2 * DIGIT]++;
    }
    for (int pass = 0; pass < 3; pass++) {
        uint32_t *c = count[pass], at = 0;
        int shift = 32 + pass * DIGIT;
        if (c[item[0] >> shift & (RADIX - 1)] == (uint32_t)n)
            continue;
        for (int d = 0; d < RADIX; d++) {
            uint32_t k = c[d];
            c[d] = at;
            at += k;
        }
        for (int64_t i = 0; i < n; i++)
            other[c[item[i] >> shift & (RADIX - 1)]++] = item[i];
        uint64_t *swap = item;
        item = other;
        other = swap;
    }
    return item;
}

/* The k smallest of n items to the front, in any order: items are split by their highest bits that
 * are not settled yet, and only the split that holds the k-th is looked at again. */
static void select_items(uint64_t *item, uint64_t *other, int64_t n, int64_t k) {
    uint64_t *from = item; /* the candidates; what is settled lies in item before them */
    for (int shift = 64 - DIGIT; k > 0 && k<n; shift = shift> DIGIT ? shift - DIGIT : 0) {
        if (n <= SMALL) {
            sort_small(from, n);
            return;
        }
        uint32_t count[RADIX] = { 0 };
        for (int64_t i = 0; i < n; i++)
            count[from[i] >> shift & (RADIX - 1)]++;
        int64_t below = 0;
        uint64_t digit = 0;
        while (below + count[digit] < k)
            below += count[digit++];
        int64_t low = 0, same = 0;
        for (int64_t i = 0; i < n; i++) {
            uint64_t d = from[i] >> shift & (RADIX - 1), v = from[i];
            if (d < digit)
                from[low++] = v;
            else if (d == digit)
                other[same++] = v;
        }
        from += low;
        memcpy(from, other, (size_t)same * sizeof *from);
        n = same;
        k -= below;
    }
}

/* ---- sort, topk, kthvalue: places first .. first + keep - 1 of the sorted rows ---- */
typedef struct job {
    rows r;
    int64_t first, keep;
    bool descending;
} job;

static void run_row(const job *j, const call *c, int64_t row, uint64_t *item) {
    const rows *r = &j->r;
    int64_t o = row / r->inner, i = row % r->inner, taken = j->first + j->keep;
    const float *x = (const float *)c->in[0]->data + o * r->n * r->inner + i;
    float *y = (float *)c->out[0]->data + o * j->keep * r->inner + i;
    int64_t *index = (int64_t *)c->out[1]->data + o * j->keep * r->inner + i;
    uint64_t *other = item + r->n;
    read_items(item, x, r->n, r->inner, j->descending);
    if (taken < r->n)
        select_items(item, other, r->n, taken);
    item = sort_items(item, other, taken);
    for (int64_t k = 0; k < j->keep; k++) {
        int64_t place = (uint32_t)item[j->first + k];
        y[k * r->inner] = x[place * r->inner];
        index[k * r->inner] = place;
    }
}

static int run_rows(const call *c, job j) {
    int64_t count = j.r.outer * j.r.inner;
    if (j.r.n >= (int64_t)1 << 32)
        return DECLINED;
    if (count == 0 || j.keep == 0)
        return VESTIGE_OK;
    int parts = count * j.r.n >= PARALLEL ? threads() : 1;
    if (parts > count)
        parts = (int)count;
    int64_t bytes = j.r.n * 16 * parts;
    void *p;
    TRY(alloc_scratch(&p, bytes));
    uint64_t *scratch = p;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++)
        for (int64_t row = count * t / parts; row < count * (t + 1) / parts && !interrupted();
             row++)
            run_row(&j, c, row, scratch + t * j.r.n * 2);
    free_scratch(p, bytes);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

/* ---- sort of 8-byte elements: the place stands beside the key ---- */
typedef struct pair {
    uint64_t key, place;
} pair;

static inline uint64_t key_of_f64(double f) {
    uint64_t u;
    f += 0.0;
    memcpy(&u, &f, 8);
    u ^= u >> 63 ? ~(uint64_t)0 : (uint64_t)1 << 63;
    return f == f ? u : ~(uint64_t)0;
}

static void read_pairs(pair *p, const tensor *x, int64_t at, int64_t n, int64_t step,
                       bool descending) {
    uint64_t turn = descending ? ~(uint64_t)0 : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = at + i * step;
        uint64_t key = x->dtype == VESTIGE_F64
                           ? key_of_f64(((const double *)x->data)[k])
                           : (uint64_t)((const int64_t *)x->data)[k] ^ (uint64_t)1 << 63;
        p[i] = (pair){ key ^ turn, (uint64_t)i };
    }
}

/* Passes of eight bits, without those in which all keys agree. */
static pair *sort_pairs(pair *item, pair *other, int64_t n) {
    for (int shift = 0; shift < 64; shift += 8) {
        int64_t count[256] = { 0 }, at = 0;
        for (int64_t i = 0; i < n; i++)
            count[item[i].key >> shift & 255]++;
        if (n == 0 || count[item[0].key >> shift & 255] == n)
            continue;
        for (int d = 0; d < 256; d++) {
            int64_t k = count[d];
            count[d] = at;
            at += k;
        }
        for (int64_t i = 0; i < n; i++)
            other[count[item[i].key >> shift & 255]++] = item[i];
        pair *swap = item;
        item = other;
        other = swap;
    }
    return item;
}

static void run_pairs(const call *c, const rows *r, int64_t row, pair *item) {
    int64_t at = row / r->inner * r->n * r->inner + row % r->inner;
    read_pairs(item, c->in[0], at, r->n, r->inner, option(c, "descending") != 0);
    item = sort_pairs(item, item + r->n, r->n);
    const uint64_t *x = (const uint64_t *)c->in[0]->data;
    uint64_t *y = (uint64_t *)c->out[0]->data;
    int64_t *index = (int64_t *)c->out[1]->data;
    for (int64_t k = 0; k < r->n; k++) {
        y[at + k * r->inner] = x[at + (int64_t)item[k].place * r->inner];
        index[at + k * r->inner] = (int64_t)item[k].place;
    }
}

/* Short rows are left to the plain loop's merging. */
static int sort_wide(const call *c) {
    rows r = rows_of(c->in[0], option(c, "dim"));
    if (r.n < 256)
        return DECLINED;
    int64_t count = r.outer * r.inner;
    int parts = count * r.n >= PARALLEL ? threads() : 1;
    if (parts > count)
        parts = count > 0 ? (int)count : 1;
    int64_t each = r.n * 2, bytes = each * (int64_t)sizeof(pair) * parts;
    void *p;
    TRY(alloc_scratch(&p, bytes));
    pair *scratch = p;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int t = 0; t < parts; t++)
        for (int64_t row = count * t / parts; row < count * (t + 1) / parts && !interrupted();
             row++)
            run_pairs(c, &r, row, scratch + t * each);
    free_scratch(p, bytes);
    return interrupted() ? fail(VESTIGE_EINTERRUPTED, "interrupted") : VESTIGE_OK;
}

static int sort(const call *c) {
    rows r = rows_of(c->in[0], option(c, "dim"));
    return run_rows(c, (job){ r, 0, r.n, option(c, "descending") != 0 });
}

static int topk(const call *c) {
    rows r = rows_of(c->in[0], option(c, "dim"));
    return run_rows(c, (job){ r, 0, (int64_t)option(c, "k"), option(c, "largest") != 0 });
}

static int kthvalue(const call *c) {
    rows r = rows_of(c->in[0], option(c, "dim"));
    return run_rows(c, (job){ r, (int64_t)option(c, "k") - 1, 1, false });
}

/* ---- argmax, argmin over rows that lie together ---- */
static int64_t arg_row(const float *x, int64_t n, float sign) {
    float best = sign * x[0];
    int64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        float v = sign * x[i];
        if (v != v)
            return i; /* the first NaN wins */
        if (v > best) {
            best = v;
            at = i;
        }
    }
    return at;
}

static int choose(const call *c, float sign) {
    rows r = rows_of(c->in[0], option(c, "dim"));
    if (r.inner != 1)
        return DECLINED;
    const float *x = (const float *)c->in[0]->data;
    int64_t *y = (int64_t *)c->out[0]->data;
    int parts = r.outer * r.n >= PARALLEL ? threads() : 1;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t o = 0; o < r.outer; o++)
        y[o] = arg_row(x + o * r.n, r.n, sign);
    return VESTIGE_OK;
}

static int argmax(const call *c) {
    return choose(c, 1);
}

static int argmin(const call *c) {
    return choose(c, -1);
}

/* ---- cumsum: in double, as PyTorch; columns side by side where they lie together ---- */
enum { COLUMNS = 64 };

/* `wide` columns of n rows, `inner` apart. */
static void cumsum_columns(float *y, const float *x, int64_t n, int64_t inner, int64_t wide) {
    double sum[COLUMNS] = { 0 };
    if (wide == 1) {
        double one = 0;
        for (int64_t k = 0; k < n; k++)
            y[k * inner] = (float)(one += (double)x[k * inner]);
        return;
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < wide; i++)
            y[k * inner + i] = (float)(sum[i] += (double)x[k * inner + i]);
}

static int cumsum(const call *c) {
    rows r = rows_of(c->in[0], option(c, "dim"));
    const float *x = (const float *)c->in[0]->data;
    float *y = (float *)c->out[0]->data;
    int64_t step = r.inner, groups = (r.inner + COLUMNS - 1) / COLUMNS;
    if (r.n == 0)
        return VESTIGE_OK;
    if (option(c, "reverse") != 0) { /* from the last row, backwards */
        x += (r.n - 1) * r.inner;
        y += (r.n - 1) * r.inner;
        step = -r.inner;
    }
    int parts = c->in[0]->numel >= PARALLEL ? threads() : 1;
#pragma omp parallel for num_threads(parts) schedule(static)
    for (int64_t g = 0; g < r.outer * groups; g++) {
        int64_t i = g % groups * COLUMNS, at = g / groups * r.n * r.inner + i;
        cumsum_columns(y + at, x + at, r.n, step, r.inner - i < COLUMNS ? r.inner - i : COLUMNS);
    }
    return VESTIGE_OK;
}

IN_F32(sort)
IN_F32(topk)
IN_F32(kthvalue)
IN_F32(argmax)
IN_F32(argmin)
IN_F32(cumsum)

const kernel_row K(cpu_sort)[] = {
    { "sort", VESTIGE_F32, sort },
    { "sort", VESTIGE_BF16, sort_bf16 },
    { "sort", VESTIGE_F64, sort_wide },
    { "sort", VESTIGE_I64, sort_wide },
    { "topk", VESTIGE_F32, topk },
    { "topk", VESTIGE_BF16, topk_bf16 },
    { "kthvalue", VESTIGE_F32, kthvalue },
    { "kthvalue", VESTIGE_BF16, kthvalue_bf16 },
    { "argmax", VESTIGE_F32, argmax },
    { "argmax", VESTIGE_BF16, argmax_bf16 },
    { "argmin", VESTIGE_F32, argmin },
    { "argmin", VESTIGE_BF16, argmin_bf16 },
    { "cumsum", VESTIGE_F32, cumsum },
    { "cumsum", VESTIGE_BF16, cumsum_bf16 },
    { 0 },
};

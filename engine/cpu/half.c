/* half.c: tensors between bf16 and f32. */
#include "cpu/half.h"

enum { PARALLEL = 1 << 16, PIECE = 1 << 14 };

static int64_t piece(int64_t n, int64_t at) {
    return n - at < PIECE ? n - at : PIECE;
}

void K(cpu_to_f32)(float *y, const uint16_t *x, int64_t n) {
    int workers = n >= PARALLEL ? threads() : 1;
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t at = 0; at < n; at += PIECE)
        widen(y + at, x + at, piece(n, at));
}

void K(cpu_to_bf16)(uint16_t *y, const float *x, int64_t n) {
    int workers = n >= PARALLEL ? threads() : 1;
#pragma omp parallel for num_threads(workers) schedule(static) if (workers > 1)
    for (int64_t at = 0; at < n; at += PIECE)
        narrow(y + at, x + at, piece(n, at));
}

static int64_t bytes_of(const tensor *t) {
    return (t->numel * 4 + 63) / 64 * 64;
}

static bool copied(const tensor *t, int i, unsigned own) {
    return t && t->dtype == VESTIGE_BF16 && !(own >> i & 1);
}

int K(cpu_in_f32)(const call *c, kernel run, unsigned own_in, unsigned own_out) {
    tensor in[MAX_INPUTS], out[VESTIGE_MAXOUT];
    T at[MAX_INPUTS];
    int64_t bytes = 0;
    if (c->nin > MAX_INPUTS)
        return DECLINED;
    for (int i = 0; i < c->nin; i++)
        if (copied(c->in[i], i, own_in)) {
            if (param_of(c, i)->flags & VESTIGE_INPLACE)
                return DECLINED;
            bytes += bytes_of(c->in[i]);
        }
    for (int k = 0; k < c->nout; k++)
        if (copied(c->out[k], k, own_out))
            bytes += bytes_of(c->out[k]);
    void *scratch;
    TRY(alloc_scratch(&scratch, bytes));
    char *free = scratch;
    call wide = *c;
    wide.in = at;
    wide.type = VESTIGE_F32;
    for (int i = 0; i < c->nin; i++) {
        at[i] = c->in[i];
        if (!copied(at[i], i, own_in))
            continue;
        in[i] = *at[i];
        in[i].dtype = VESTIGE_F32;
        in[i].data = free;
        K(cpu_to_f32)((float *)free, (const uint16_t *)at[i]->data, in[i].numel);
        free += bytes_of(at[i]);
        at[i] = &in[i];
    }
    for (int k = 0; k < c->nout; k++) {
        if (!copied(c->out[k], k, own_out))
            continue;
        out[k] = *c->out[k];
        out[k].dtype = VESTIGE_F32;
        out[k].data = free;
        free += bytes_of(&out[k]);
        wide.out[k] = &out[k];
    }
    int status = run(&wide);
    for (int k = 0; k < c->nout && status == VESTIGE_OK; k++)
        if (copied(c->out[k], k, own_out))
            K(cpu_to_bf16)((uint16_t *)c->out[k]->data, (const float *)out[k].data, out[k].numel);
    free_scratch(scratch, bytes);
    return status;
}

/* Convolution in groups in f32. Groups of few channels are summed side by side (conv_strip.c); of
 * groups of many, each is cut out, convolved as an image of its own and put in its place; two of 8
 * to 15 channels at once, as one of twice as many whose weights between the two are zero, because
 * the tiles of conv.c are 16 wide or more. */
#include "cpu/conv_group.h"
#include "cpu/f32.h"
#include "cpu/scratch.h"
#include "cpu/tile.h"
#include "core/threads.h"

#define MANY 8 /* channels of a group, in and out */

/* What is convolved at once: one group, or two that are joined. */
struct slices {
    struct cpu_conv g;
    int64_t joined;  /* groups */
    int64_t in, out; /* pixels of x, of y */
    float *x, *y, *w;
    void *more; /* of the convolution */
};

static bool cuts(const struct cpu_conv *g) {
    return imin(g->c, g->o) >= MANY * g->groups;
}

enum kind { FORWARD, BACK, WEIGHTS };

static int64_t layout(struct slices *p, const struct cpu_conv *g, enum kind kind, void *base) {
    *p = (struct slices){ .g = *g, .in = g->n * g->h * g->w, .out = g->n * g->oh * g->ow };
    p->joined = imin(g->c, g->o) < 2 * MANY * g->groups && g->groups % 2 == 0 ? 2 : 1;
    p->g.groups = 1;
    p->g.c = g->c / g->groups * p->joined;
    p->g.o = g->o / g->groups * p->joined;
    struct scratch s = scratch_open(base);
    p->x = scratch_take(&s, p->in * p->g.c * 4);
    p->y = scratch_take(&s, p->out * p->g.o * 4);
    p->w = scratch_take(&s, p->joined == 1 ? 0 : p->g.o * g->kh * g->kw * p->g.c * 4);
    int64_t more = kind == FORWARD ? K(cpu_conv_forward_scratch)(&p->g)
                   : kind == BACK  ? K(cpu_conv_input_grad_scratch)(&p->g)
                                   : K(cpu_conv_weight_grad_scratch)(&p->g);
    if (more < 0)
        return -1;
    p->more = scratch_take(&s, more);
    return scratch_bytes(&s);
}

/* Rows of n floats, to_step and from_step apart. */
static void copy_rows(float *to, int64_t to_step, const float *from, int64_t from_step, int64_t n,
                      int64_t rows) {
    int workers = rows * n < 1 << 16 ? 1 : threads();
#pragma omp parallel for num_threads(workers) schedule(static)
    for (int64_t i = 0; i < rows; i++)
        copy_floats(to + i * to_step, from + i * from_step, n);
}

/* The joined groups' weights w (o,taps,c / joined), which lie on the diagonal of what is convolved.
 */
static float *diagonal(const struct slices *p, int64_t o, int64_t t) {
    int64_t taps = p->g.kh * p->g.kw, c = p->g.c / p->joined;
    return p->w + (o * taps + t) * p->g.c + o / (p->g.o / p->joined) * c;
}

static const float *join_weights(const struct slices *p, const float *w) {
    int64_t taps = p->g.kh * p->g.kw, c = p->g.c / p->joined;
    if (p->joined == 1)
        return w;
    memset(p->w, 0, (size_t)(p->g.o * taps * p->g.c) * 4);
    for (int64_t o = 0; o < p->g.o; o++)
        for (int64_t t = 0; t < taps; t++, w += c)
            copy_floats(diagonal(p, o, t), w, c);
    return p->w;
}

static void part_weights(const struct slices *p, float *w) {
    int64_t taps = p->g.kh * p->g.kw, c = p->g.c / p->joined;
    for (int64_t o = 0; o < p->g.o; o++)
        for (int64_t t = 0; t < taps; t++, w += c)
            copy_floats(w, diagonal(p, o, t), c);
}

int64_t K(cpu_group_scratch)(const struct cpu_conv *g, bool back) {
    struct slices p;
    return cuts(g) ? layout(&p, g, back ? BACK : FORWARD, NULL) : K(cpu_strip_scratch)(g, back);
}

int K(cpu_group)(float *y, const float *x, const float *w, const float *bias,
                 const struct cpu_conv *g, bool back, void *scratch) {
    if (!cuts(g))
        return K(cpu_strip)(y, x, w, bias, g, back, scratch);
    struct slices p;
    if (layout(&p, g, back ? BACK : FORWARD, scratch) < 0)
        return CPU_UNPROFITABLE;
    int64_t c = p.g.c, o = p.g.o, weights = o * g->kh * g->kw * c / p.joined;
    int code = CPU_OK;
    for (int64_t i = 0; i < g->groups / p.joined && code == CPU_OK; i++) {
        const float *part = join_weights(&p, w + i * weights);
        if (back) {
            copy_rows(p.y, o, x + i * o, g->o, o, p.out);
            if (g->add)
                copy_rows(p.x, c, y + i * c, g->c, c, p.in);
            code = K(cpu_conv_input_grad)(p.x, p.y, part, &p.g, p.more);
            copy_rows(y + i * c, g->c, p.x, c, c, p.in);
        } else {
            copy_rows(p.x, c, x + i * c, g->c, c, p.in);
            if (g->add)
                copy_rows(p.y, o, y + i * o, g->o, o, p.out);
            code = K(cpu_conv_forward)(p.y, p.x, part, bias ? bias + i * o : NULL, &p.g, p.more);
            copy_rows(y + i * o, g->o, p.y, o, o, p.out);
        }
    }
    return code;
}

int64_t K(cpu_group_weights_scratch)(const struct cpu_conv *g) {
    struct slices p;
    return cuts(g) ? layout(&p, g, WEIGHTS, NULL) : K(cpu_strip_weights_scratch)(g);
}

int K(cpu_group_weights)(float *dw, const float *dy, const float *x, const struct cpu_conv *g,
                         void *scratch) {
    if (!cuts(g))
        return K(cpu_strip_weights)(dw, dy, x, g, scratch);
    struct slices p;
    if (layout(&p, g, WEIGHTS, scratch) < 0)
        return CPU_UNPROFITABLE;
    int64_t c = p.g.c, o = p.g.o, weights = o * g->kh * g->kw * c / p.joined;
    int code = CPU_OK;
    for (int64_t i = 0; i < g->groups / p.joined && code == CPU_OK; i++, dw += weights) {
        copy_rows(p.x, c, x + i * c, g->c, c, p.in);
        copy_rows(p.y, o, dy + i * o, g->o, o, p.out);
        code = K(cpu_conv_weight_grad)(p.joined == 1 ? dw : p.w, p.y, p.x, &p.g, p.more);
        if (p.joined > 1)
            part_weights(&p, dw);
    }
    return code;
}

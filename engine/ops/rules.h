/* rules.h: the language of gradient rules. A rule reads like its formula: R(mul, a, b) runs an
 * operator and gives its first output; results live until the rule ends; after an error every
 * operator does nothing, so rules do not check. RO passes options by name or as raw slots. */
#ifndef VESTIGE_RULES_H
#define VESTIGE_RULES_H

#include "ops/row.h"

/* An option in a rule: { "dim", 1 } or, for a list, { "dims", .list = d, .count = n }. */
typedef struct rule_option {
    const char *name;
    double v;
    const int64_t *list;
    int count;
} O;

V rule_apply(int op, const V *in, int nin, const O *opts, int nopts, const double *raw, V *outs);
#define RULE_COUNT(...) ((int)(sizeof((V[]){ __VA_ARGS__ }) / sizeof(V)))
#define R(name, ...)                                                                               \
    rule_apply(OPID(name), (V[]){ __VA_ARGS__ }, RULE_COUNT(__VA_ARGS__), NULL, 0, NULL, NULL)
/* RO(sum, OPTS({ "dim", .list = d, .count = n }, { "keepdim", 1 }), x) */
typedef struct rule_options {
    const O *at;
    int count;
} rule_options;
#define OPTS(...)                                                                                  \
    ((rule_options){ (const O[]){ __VA_ARGS__ }, (int)(sizeof((O[]){ __VA_ARGS__ }) / sizeof(O)) })
V rule_apply_options(int op, const V *in, int nin, rule_options o);
#define RO(name, opts, ...)                                                                        \
    rule_apply_options(OPID(name), (V[]){ __VA_ARGS__ }, RULE_COUNT(__VA_ARGS__), opts)
/* The same slots as another call of rows with equal options. */
#define RRAW(name, raw, ...)                                                                       \
    rule_apply(OPID(name), (V[]){ __VA_ARGS__ }, RULE_COUNT(__VA_ARGS__), NULL, 0, raw, NULL)

ALWAYS_INLINE V num(double x) {
    return (V){ NULL, x };
}
ALWAYS_INLINE V tensor_value(T t) {
    return (V){ t, 0 };
}
#define NONE ((V){ NULL, NAN })

/* ---- What a rule is given ---- */
typedef struct grad grad;
bool need(const grad *g, int i); /* is input i's gradient wanted */
V in(grad *g, int i);            /* saved input i (or its number), with its history */
V out(grad *g, int k);           /* saved output k, with its history */
V gout(grad *g, int k);          /* the gradient of output k; .t NULL when none arrived */
bool has_gout(const grad *g, int k);
void give(grad *g, int i, V gradient); /* fitted to the input's shape and type by the walk */
/* Gives op(a, b); where a gradient of input i is there already and is nobody else's, by op_add_ in
 * place, which saves a pass. */
void give_sum(grad *g, int i, int op, int op_add, const double *raw, V a, V b);
#define GIVE_SUM(g, i, name, raw, a, b) give_sum(g, i, OPID(name), OPID(name##_add_), raw, a, b)
const double *slots(const grad *g); /* the call's options as given, dims normalised */
double opt(const grad *g, const char *name);
int opt_list(const grad *g, const char *name, const double **values);
int nin(const grad *g);
const int32_t *lens(const grad *g);
vestige_stream draw(const grad *g); /* where a random row drew from */
shape in_shape(const grad *g, int i);
shape out_shape(const grad *g, int k);
bool creating_graph(const grad *g); /* a second derivative may follow: fused rules must not run */
bool present(const grad *g, int i); /* was input i a tensor */

#endif

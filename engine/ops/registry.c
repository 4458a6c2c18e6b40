/* registry.c: the list of operator families and kernel families, the parser of the rows' texts,
 * and the kernel tables. */
#include <stdio.h>
#include <stdlib.h>
#include "ops/row.h"
#include "cpu/cpu.h"

#define OP_FAMILIES(X)                                                                             \
    X(arith)                                                                                       \
    X(unary)                                                                                       \
    X(activation)                                                                                  \
    X(special)                                                                                     \
    X(compare)                                                                                     \
    X(create)                                                                                      \
    X(random)                                                                                      \
    X(shape)                                                                                       \
    X(slice)                                                                                       \
    X(index)                                                                                       \
    X(count)                                                                                       \
    X(reduce)                                                                                      \
    X(sort)                                                                                        \
    X(linalg)                                                                                      \
    X(conv)                                                                                        \
    X(grid)                                                                                        \
    X(pool)                                                                                        \
    X(norm)                                                                                        \
    X(layer_norm)                                                                                  \
    X(softmax)                                                                                     \
    X(embedding)                                                                                   \
    X(attention)                                                                                   \
    X(loss)                                                                                        \
    X(criterion)                                                                                   \
    X(optim)

#define DECLARE(family)                                                                            \
    extern const op_row ops_##family[];                                                            \
    extern const kernel_row ref_##family[];
OP_FAMILIES(DECLARE)
#undef DECLARE

op_info *op_table;
static int op_count;

enum { HASH = 2048 };
static int16_t hash_table[HASH];

static unsigned hash_of(const char *name) {
    unsigned h = 5381;
    while (*name)
        h = h * 33 + (unsigned char)*name++;
    return h % HASH;
}

int op_find(const char *name) {
    for (unsigned h = hash_of(name);; h = (h + 1) % HASH) {
        if (!hash_table[h])
            return -1;
        if (strcmp(op_table[hash_table[h] - 1].row->name, name) == 0)
            return hash_table[h] - 1;
    }
}

/* ---- Parsing. The texts are ours: an error here is a bug, it is told and stops start-up. ---- */
static int bad(const op_row *row, const char *text) {
    return fail(VESTIGE_EVALUE, "operator %s: cannot read '%s'", row->name, text);
}

static const struct {
    const char *name;
    int kind, width;
} kinds[] = {
    { "int", VESTIGE_INT, 1 },      { "int2", VESTIGE_INT2, 2 },
    { "ints", VESTIGE_INTS, 9 },    { "dim", VESTIGE_DIM, 1 },
    { "dims", VESTIGE_DIMS, 9 },    { "position", VESTIGE_POSITION, 1 },
    { "size", VESTIGE_SIZE, 9 },    { "float", VESTIGE_FLOAT, 1 },
    { "bool", VESTIGE_BOOLEAN, 1 }, { "dtype", VESTIGE_DTYPE, 1 },
};

/* Copies up to a character of `stops` and returns the place of the stop. */
static const char *cut(char *to, size_t room, const char *from, const char *stops) {
    size_t n = strcspn(from, stops);
    snprintf(to, room, "%.*s", (int)n, from);
    return from + n;
}

static int parse_tensor(const op_row *row, const char **text, vestige_param *p, bool output) {
    const char *s = cut(p->name, sizeof p->name, *text, ": ");
    p->kind = VESTIGE_TENSOR;
    strcpy(p->type, output ? "" : "tensor");
    if (*s == ':') {
        s = cut(p->type, sizeof p->type, s + 1, " ?*!|");
        for (; *s && *s != ' '; s++) {
            if (*s == '?')
                p->flags |= VESTIGE_OPTIONAL;
            else if (*s == '*')
                p->kind = VESTIGE_LIST;
            else if (*s == '!')
                p->flags |= VESTIGE_INPLACE;
            else if (strncmp(s, "|number", 7) == 0)
                p->flags |= VESTIGE_NUMBER, s += 6;
            else
                return bad(row, *text);
        }
    }
    *text = s + strspn(s, " ");
    return VESTIGE_OK;
}

static double preset_value(const vestige_param *p, const char *text) {
    if (strcmp(text, "true") == 0)
        return 1;
    if (strcmp(text, "false") == 0)
        return 0;
    if (p->kind == VESTIGE_ENUM) {
        int index = 0;
        for (const char *c = p->choices; *c; index++) {
            size_t n = strcspn(c, "|");
            if (n == strlen(text) && strncmp(c, text, n) == 0)
                return index;
            c += n + (c[n] == '|');
        }
        return NAN;
    }
    double v = strtod(text, NULL);
    bool from_one = p->kind == VESTIGE_DIM || p->kind == VESTIGE_POSITION;
    return from_one && v > 0 ? v - 1 : v; /* slots count from 0 */
}

static int parse_option(op_info *info, const char **text, vestige_param *p) {
    const op_row *row = info->row;
    const char *s = cut(p->name, sizeof p->name, *text, ":");
    if (*s++ != ':')
        return bad(row, *text);
    p->kind = -1;
    if (strncmp(s, "enum(", 5) == 0) {
        p->kind = VESTIGE_ENUM;
        p->width = 1;
        s = cut(p->choices, sizeof p->choices, s + 5, ")") + 1;
    } else {
        s = cut(p->type, sizeof p->type, s, " ?=");
        for (int k = 0; k < COUNT(kinds); k++)
            if (strcmp(kinds[k].name, p->type) == 0)
                p->kind = kinds[k].kind, p->width = kinds[k].width;
    }
    if (p->kind < 0)
        return bad(row, *text);
    p->slot = info->public.nslot;
    double *preset = &info->preset[p->slot];
    info->public.nslot += p->width;
    if (info->public.nslot > MAX_SLOTS)
        return bad(row, "too many options");
    bool list = p->width == 9;
    if (*s == '?') {
        p->flags |= VESTIGE_OPTIONAL;
        preset[0] = list || p->kind == VESTIGE_DTYPE ? -1 : NAN;
        s++;
    } else if (*s == '=') {
        s = cut(p->preset, sizeof p->preset, s + 1, " ");
        preset[0] = preset_value(p, p->preset);
        if (p->width == 2)
            preset[1] = preset[0];
    } else {
        preset[0] = NAN;
    }
    *text = s + strspn(s, " ");
    return VESTIGE_OK;
}

static int parse_row(op_info *info, const op_row *row) {
    enum { MAX_OPTIONS = 16 };
    vestige_param *p = calloc(MAX_INPUTS + VESTIGE_MAXOUT + MAX_OPTIONS, sizeof *p);
    if (!p)
        return fail(VESTIGE_EMEMORY, "out of memory at start-up");
    *info = (op_info){ .row = row, .param = p };
    vestige_op *o = &info->public;
    *o = (vestige_op){ .name = row->name,
                       .in = row->in,
                       .out = row->out,
                       .opts = row->opts,
                       .doc = row->doc,
                       .flags = (row->flags & 15) | (row->grad ? VESTIGE_OP_DIFFERENTIABLE : 0),
                       .domain = { row->domain[0], row->domain[1] } };
    o->ins = p;
    for (const char *s = row->in ? row->in : ""; *s; o->nin++) {
        if (*s ==
            '@') { /* the place of an option among the arguments: for those who call by place */
            s += strcspn(s, " ");
            s += strspn(s, " ");
        }
        if (o->nin == MAX_INPUTS)
            return bad(row, s);
        vestige_param *q = p + o->nin;
        TRY(parse_tensor(row, &s, q, false));
        if (q->kind == VESTIGE_LIST) {
            info->nlists++;
            info->in_lists |= 1 << o->nin;
        }
        info->changes |= (q->flags & VESTIGE_INPLACE) != 0;
    }
    o->outs = p += o->nin;
    for (const char *s = row->out ? row->out : ""; *s; o->nout++) {
        if (o->nout == VESTIGE_MAXOUT)
            return bad(row, s);
        TRY(parse_tensor(row, &s, p + o->nout, true));
    }
    o->options = p += o->nout;
    o->presets = info->preset;
    for (const char *s = row->opts ? row->opts : ""; *s; o->nopt++) {
        if (o->nopt == MAX_OPTIONS)
            return bad(row, s);
        TRY(parse_option(info, &s, p + o->nopt));
        if (!(p[o->nopt].flags & VESTIGE_OPTIONAL) && !p[o->nopt].preset[0])
            info->required |= (uint64_t)1 << p[o->nopt].slot;
    }
    return VESTIGE_OK;
}

/* ---- Kernel tables: plain loops first, then whatever is better and fits this processor. ---- */
static int add_kernels(const kernel_row *rows, int device, const char *level) {
    for (; rows->name; rows++) {
        int op = op_find(rows->name);
        if (op < 0)
            return fail(VESTIGE_EKERNEL, "a %s kernel names the unknown operator '%s'", level,
                        rows->name);
        op_table[op].kernel[device][rows->type] = rows->run;
        op_table[op].level[device][rows->type] = level;
    }
    return VESTIGE_OK;
}

/* add_ runs add's kernel with its output over its first input. */
static void share_inplace(void) {
    for (int i = 0; i < op_count; i++) {
        op_info *info = &op_table[i];
        size_t n = strlen(info->row->name);
        if (info->row->name[n - 1] != '_')
            continue;
        char base[64];
        snprintf(base, sizeof base, "%.*s", (int)n - 1, info->row->name);
        int from = op_find(base);
        for (int d = 0; from >= 0 && d < VESTIGE_NDEVICES; d++)
            for (int t = 0; t < VESTIGE_NTYPES; t++)
                if (!info->kernel[d][t]) {
                    info->kernel[d][t] = op_table[from].kernel[d][t];
                    info->level[d][t] = op_table[from].level[d][t];
                }
    }
}

static int add_family(const op_row *rows) {
    for (; rows->name; rows++) {
        TRY(parse_row(&op_table[op_count], rows));
        unsigned h = hash_of(rows->name);
        while (hash_table[h])
            h = (h + 1) % HASH;
        hash_table[h] = (int16_t)++op_count;
    }
    return VESTIGE_OK;
}

static int fill(void) {
    int room = 0;
#define COUNT_ROWS(family)                                                                         \
    for (const op_row *r = ops_##family; r->name; r++)                                             \
        room++;
    OP_FAMILIES(COUNT_ROWS)
    op_table = calloc((size_t)room, sizeof *op_table);
    if (!op_table)
        return fail(VESTIGE_EMEMORY, "out of memory at start-up");
#define ADD(family) TRY(add_family(ops_##family));
    OP_FAMILIES(ADD)
#define ADD_REF(family)                                                                            \
    TRY(add_kernels(ref_##family, VESTIGE_CPU, "ref"));                                            \
    TRY(add_kernels(ref_##family, VESTIGE_REF, "ref"));
    OP_FAMILIES(ADD_REF)
    TRY(cpu_register(add_kernels));
    share_inplace();
    return VESTIGE_OK;
}

int registry_open(void) {
    static int state = 1; /* 1: not yet, 0: done, negative: failed */
    if (state == 1)
        state = fill();
    return state;
}

int vestige_op_count(void) {
    clear_error();
    TRY(registry_open());
    return op_count;
}

int vestige_op_find(const char *name) {
    return registry_open() < 0 ? -1 : op_find(name);
}

const vestige_op *vestige_op_row(int op) {
    return registry_open() >= 0 && op >= 0 && op < op_count ? &op_table[op].public : NULL;
}

const char *vestige_kernel_level(int op, int device, int dtype) {
    if (registry_open() < 0 || op < 0 || op >= op_count || device < 0 ||
        device >= VESTIGE_NDEVICES || dtype < 0 || dtype >= VESTIGE_NTYPES)
        return NULL;
    return op_table[op].level[device][dtype];
}

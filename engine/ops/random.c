/* random.c: random draws, and dropout. A draw is a function of the stream's key and
 * offset alone: the same bits on every device and with any number of threads. */
#include "ops/rules.h"

static int infer_like(call *c) {
    c->type = c->in[0]->dtype;
    TRY(need_float(c, 0));
    shape_like(c, 0, c->in[0]);
    return VESTIGE_OK;
}

static int infer_in_place(call *c) {
    c->type = c->in[0]->dtype;
    return VESTIGE_OK;
}

static int check_probability(const call *c, double p) {
    if (p >= 0 && p <= 1)
        return VESTIGE_OK;
    return fail(VESTIGE_EVALUE, "%s: p: expected a probability from 0 to 1, got %g", opname(c), p);
}

static int infer_bernoulli(call *c) {
    double p = option(c, "p");
    if (!isnan(p))
        TRY(check_probability(c, p));
    return infer_like(c);
}

/* p: a number, or a tensor of x's shape or one that broadcasts to it. */
static int infer_bernoulli_in_place(call *c) {
    c->type = c->in[0]->dtype;
    if (!c->in[1])
        return check_probability(c, c->num[1]);
    if (!is_float(c->in[1]->dtype))
        return need_float(c, 1);
    TRY(cast_input(c, 1, VESTIGE_F32));
    TRY(shape_broadcast(c, 0));
    c->shape[0].dtype = c->type;
    return VESTIGE_OK;
}

static int infer_randperm(call *c) {
    double n = option(c, "n");
    if (!(n >= 0 && n < 0x1p31))
        return fail(VESTIGE_EVALUE, "randperm: n: expected 0 to 2^31, got %g", n);
    c->type = (int)option(c, "dtype");
    if (c->type == VESTIGE_BOOL)
        return fail(VESTIGE_ETYPE, "randperm: expected a type of numbers, got bool");
    shape_set(c, 0, c->type, 1, (int64_t[]){ (int64_t)n });
    return VESTIGE_OK;
}

static int infer_randint(call *c) {
    double low = option(c, "low"), high = option(c, "high");
    if (!(low < high && fabs(low) <= 0x1p53 && fabs(high) <= 0x1p53))
        return fail(VESTIGE_EVALUE, "randint: expected low < high, got %g and %g", low, high);
    c->type = (int)option(c, "dtype");
    return size_option(c, 0, c->type);
}

static int infer_random(call *c) {
    c->type = (int)option(c, "dtype");
    if (!is_float(c->type))
        return fail(VESTIGE_ETYPE, "%s: expected a float type, got %s", opname(c),
                    vestige_dtype_name(c->type));
    return size_option(c, 0, c->type);
}

/* ---- dropout. Its gradient drops the same elements: dropout_replay draws from the place that the
 * tape kept, and, being linear in x, is its own gradient at every order. ---- */
static int infer_dropout(call *c) {
    double p = option(c, "p");
    TRY(check_probability(c, p));
    TRY(infer_like(c));
    c->view = p == 0 || option(c, "training") == 0;
    c->view_offset = 0;
    return VESTIGE_OK;
}

static void grad_dropout(grad *g) {
    double p = opt(g, "p");
    if (p == 0 || opt(g, "training") == 0) {
        give(g, 0, gout(g, 0));
        return;
    }
    vestige_stream s = draw(g); /* a slot is a double: it holds 32 bits well */
    give(
        g, 0,
        RO(dropout_replay,
           OPTS({ "p", p }, { "key_low", (double)(uint32_t)s.key },
                { "key_high", (double)(s.key >> 32) }, { "offset_low", (double)(uint32_t)s.offset },
                { "offset_high", (double)(s.offset >> 32) }),
           gout(g, 0)));
}

static void grad_replay(grad *g) {
    give(g, 0, RRAW(dropout_replay, slots(g), gout(g, 0)));
}

static int infer_moments(call *c) {
    TRY(need_float(c, 0));
    if (option(c, "std") < 0)
        return fail(VESTIGE_EVALUE, "normal_: std: expected 0 or more, got %g", option(c, "std"));
    return infer_in_place(c);
}

static int infer_range(call *c) {
    TRY(need_float(c, 0));
    if (!(option(c, "from") <= option(c, "to")))
        return fail(VESTIGE_EVALUE, "uniform_: expected from <= to, got %g and %g",
                    option(c, "from"), option(c, "to"));
    return infer_in_place(c);
}

const op_row ops_random[] = {
    { .name = "randn",
      .out = "y",
      .opts = "size:size dtype:dtype=0",
      .infer = infer_random,
      .flags = ROW_RANDOM,
      .doc = "Independent draws from N(0,1)." },
    { .name = "rand",
      .out = "y",
      .opts = "size:size dtype:dtype=0",
      .infer = infer_random,
      .flags = ROW_RANDOM,
      .doc = "Independent uniform draws from [0,1)." },
    { .name = "randn_like",
      .in = "x:float",
      .out = "y",
      .infer = infer_like,
      .flags = ROW_RANDOM,
      .doc = "Independent draws from N(0,1), of x's shape and type." },
    { .name = "rand_like",
      .in = "x:float",
      .out = "y",
      .infer = infer_like,
      .flags = ROW_RANDOM,
      .doc = "Independent uniform draws from [0,1), of x's shape and type." },
    { .name = "bernoulli",
      .in = "x:float",
      .out = "y",
      .opts = "p:float?",
      .infer = infer_bernoulli,
      .flags = ROW_RANDOM,
      .domain = { 0, 1 },
      .doc = "Ones with the probabilities that x holds, or all with probability p; else zeros." },
    { .name = "randperm",
      .out = "y",
      .opts = "n:int dtype:dtype=3",
      .infer = infer_randperm,
      .flags = ROW_RANDOM,
      .doc = "The whole numbers from 0 to n - 1 in random order." },
    { .name = "randint",
      .out = "y",
      .opts = "low:int high:int size:size dtype:dtype=3",
      .infer = infer_randint,
      .flags = ROW_RANDOM,
      .doc = "Independent uniform whole numbers from low to high - 1." },
    { .name = "dropout",
      .in = "x:float",
      .out = "y",
      .opts = "p:float=0.5 training:bool=true",
      .infer = infer_dropout,
      .grad = grad_dropout,
      .keeps = KEEP_NONE,
      .flags = ROW_RANDOM,
      .domain = { -2, 2 },
      .doc = "In training, 0 with probability p for each element and x / (1 - p) else; else x." },
    { .name = "dropout_replay",
      .in = "x:float",
      .out = "y",
      .opts = "p:float key_low:float=0 key_high:float=0 offset_low:float=0 offset_high:float=0",
      .infer = infer_like,
      .grad = grad_replay,
      .keeps = KEEP_NONE,
      .flags = ROW_HIDDEN,
      .domain = { -2, 2 },
      .doc = "dropout with the draws of an earlier call." },

    { .name = "normal_",
      .in = "x:float!",
      .opts = "mean:float=0 std:float=1",
      .infer = infer_moments,
      .flags = ROW_RANDOM,
      .doc = "Draws from N(mean, std^2) over x." },
    { .name = "uniform_",
      .in = "x:float!",
      .opts = "from:float=0 to:float=1",
      .infer = infer_range,
      .flags = ROW_RANDOM,
      .doc = "Uniform draws from [from, to) over x." },
    { .name = "bernoulli_",
      .in = "x:tensor! p:tensor|number",
      .infer = infer_bernoulli_in_place,
      .flags = ROW_RANDOM,
      .doc = "Ones with probability p, else zeros, over x." },
    { 0 }
};

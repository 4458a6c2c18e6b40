/* The core: handles, scopes, roots, the allocator, storage and versions, Philox, the ref device's
 * closed memory, interrupts, and walks that fail. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#undef fail /* it is core.h's here */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/core.h"
#include "core/philox.h"
#include "autograd/autograd.h"

static vestige_memory_info memory(void) {
    vestige_memory_info info;
    vestige_memory(&info);
    return info;
}

static int op(const char *name) {
    int number = vestige_op_find(name);
    assert_true(number >= 0);
    return number;
}

/* A tensor (n) of 1, 2, 3, ... */
static vestige_tensor count_up(int64_t n) {
    float data[64];
    for (int i = 0; i < n; i++)
        data[i] = (float)(i + 1);
    vestige_tensor t;
    assert_true(vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 1, &n, data, n * 4) >= 0);
    return t;
}

static double sum_of(const vestige_tensor *t) {
    vestige_tensor s;
    double value;
    int64_t whole;
    assert_true(vestige_run1(op("sum"), &s, t) >= 0);
    assert_true(vestige_item(&s, &value, &whole) >= 0);
    vestige_release(&s);
    return value;
}

static uint32_t open_scope(void) {
    uint32_t id;
    assert_int_equal(vestige_scope_open(&id), VESTIGE_OK);
    return id;
}

static void close_scope(uint32_t id) {
    assert_int_equal(vestige_scope_close(id), VESTIGE_OK);
}

/* Every test ends with what it began with. */
static vestige_memory_info before;

static int setup(void **state) {
    (void)state;
    vestige_op_count();
    before = memory();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    vestige_memory_info after = memory();
    if (after.live == before.live && after.tensors == before.tensors &&
        after.roots == before.roots && after.nodes == before.nodes)
        return 0;
    fprintf(stderr, "live %+lld tensors %+lld roots %+lld nodes %+lld\n",
            (long long)(after.live - before.live), (long long)(after.tensors - before.tensors),
            (long long)(after.roots - before.roots), (long long)(after.nodes - before.nodes));
    return 1;
}

/* ---- Handles ---- */
static void released_and_stale_handles_are_found_out(void **state) {
    (void)state;
    vestige_tensor t = count_up(3), copy = t, out;
    assert_int_equal(vestige_alive(&t), 1);
    assert_int_equal(vestige_release(&t), VESTIGE_OK);
    assert_null(t._p);
    assert_int_equal(vestige_alive(&copy), 0);
    assert_int_equal(vestige_run1(op("neg"), &out, &t), VESTIGE_EHANDLE);
    assert_string_equal(vestige_message(), "neg: the tensor was released");
    assert_int_equal(vestige_release(&t), VESTIGE_EHANDLE);
    /* The slot lives again as another tensor: the old handle is still found out. */
    vestige_tensor next = count_up(3);
    assert_ptr_equal(next._p, copy._p);
    assert_int_equal(vestige_run1(op("neg"), &out, &copy), VESTIGE_EHANDLE);
    assert_non_null(strstr(vestige_message(), "neg: the tensor is gone"));
    assert_int_equal(vestige_release(&copy), VESTIGE_EHANDLE);
    assert_int_equal(vestige_release(&next), VESTIGE_OK);
    assert_int_equal(vestige_run1(op("neg"), &out, NULL), VESTIGE_EHANDLE);
}

static void an_alias_holds_its_own_reference(void **state) {
    (void)state;
    vestige_tensor t = count_up(3), other;
    assert_int_equal(vestige_alias(&other, &t), VESTIGE_ROOT);
    assert_int_not_equal(other._owner, t._owner);
    vestige_release(&t);
    assert_true(sum_of(&other) == 6);
    vestige_release(&other);
}

/* A copy of a handle is no second reference: releasing it too must not free a slot twice. */
static void a_root_slot_is_given_back_once(void **state) {
    (void)state;
    vestige_tensor t = count_up(3), other, copy = t;
    vestige_alias(&other, &t);
    vestige_release(&t);
    vestige_release(&copy);
    vestige_tensor a = count_up(3), b = count_up(3);
    assert_int_not_equal(a._owner, b._owner);
    assert_int_equal(vestige_alive(&other), 1);
    vestige_release(&a);
    vestige_release(&b);
    vestige_release(&other);
    assert_int_equal(vestige_release_root(0x7fffffff), VESTIGE_EHANDLE);
}

static void root_slots_are_used_again(void **state) {
    (void)state;
    vestige_tensor t = count_up(1);
    uint32_t slot = t._owner;
    assert_true(slot >> 31);
    assert_int_equal(vestige_release_root(slot & 0x7fffffff), VESTIGE_OK);
    assert_int_equal(vestige_alive(&t), 0);
    assert_int_equal(vestige_release_root(slot & 0x7fffffff), VESTIGE_EHANDLE);
    t = count_up(1);
    assert_int_equal(t._owner, slot);
    vestige_release(&t);
}

/* ---- Scopes ---- */
static void a_scope_drops_what_it_made(void **state) {
    (void)state;
    uint32_t id = open_scope();
    assert_int_equal(vestige_scope_current(), id);
    vestige_tensor t = count_up(3), held;
    vestige_alias(&held, &t);
    vestige_keep_root(&held);
    assert_int_equal(t._owner, id);
    close_scope(id);
    assert_int_equal(vestige_scope_current(), 0);
    assert_int_equal(vestige_alive(&t), 1); /* held by someone else */
    vestige_release(&held);
    assert_int_equal(vestige_alive(&t), 0);
}

static void kept_tensors_go_out_one_scope_at_a_time(void **state) {
    (void)state;
    uint32_t a = open_scope(), b = open_scope(), c = open_scope();
    vestige_tensor t = count_up(3);
    assert_int_equal(vestige_keep(&t, c), VESTIGE_OK);
    assert_int_equal(vestige_keep(&t, c), VESTIGE_OK); /* twice is once */
    assert_int_equal(t._owner, b);
    close_scope(c);
    assert_true(sum_of(&t) == 6);
    assert_int_equal(vestige_keep(&t, b), VESTIGE_OK);
    close_scope(b);
    assert_true(sum_of(&t) == 6);
    close_scope(a);
    assert_int_equal(vestige_alive(&t), 0);
}

static void a_tensor_is_kept_through_several_scopes_at_once(void **state) {
    (void)state;
    uint32_t a = open_scope(), b = open_scope(), c = open_scope();
    vestige_tensor t = count_up(3), u = count_up(3);
    assert_int_equal(vestige_keep(&t, b), VESTIGE_OK); /* past b, and so past c */
    assert_int_equal(t._owner, a);
    close_scope(c);
    assert_int_equal(vestige_alive(&u), 0);
    close_scope(b);
    assert_true(sum_of(&t) == 6);
    assert_int_equal(vestige_keep(&t, a), VESTIGE_ROOT);
    close_scope(a);
    assert_true(sum_of(&t) == 6);
    vestige_release(&t);
}

/* What an inner scope returns may belong to a scope far outside: it stays there. */
static void keeping_does_not_move_what_is_outside_already(void **state) {
    (void)state;
    uint32_t a = open_scope(), b = open_scope();
    vestige_tensor t = count_up(3);
    uint32_t c = open_scope();
    assert_int_equal(vestige_keep(&t, c), VESTIGE_OK);
    assert_int_equal(t._owner, b);
    close_scope(c);
    close_scope(b);
    assert_int_equal(vestige_alive(&t), 0);
    close_scope(a);
}

/* Its scope is closed, someone else holds it, and it is returned: a new reference goes out. */
static void a_handle_whose_scope_is_gone_can_be_kept(void **state) {
    (void)state;
    uint32_t a = open_scope();
    vestige_tensor holder = count_up(3), t;
    uint32_t b = open_scope();
    vestige_alias(&t, &holder);
    close_scope(b);
    assert_int_equal(vestige_keep(&t, a), VESTIGE_ROOT);
    close_scope(a);
    assert_int_equal(vestige_alive(&holder), 1);
    assert_true(sum_of(&t) == 6);
    vestige_release(&t);
}

static void release_finds_kept_tensors(void **state) {
    (void)state;
    uint32_t a = open_scope(), b = open_scope();
    vestige_tensor t = count_up(3), u = count_up(3), v = count_up(3);
    vestige_keep(&t, b);
    vestige_keep(&u, b);
    vestige_release(&t);
    assert_null(t._p);
    assert_int_equal(memory().tensors, before.tensors + 2);
    assert_int_equal(vestige_keep_root(&u), VESTIGE_ROOT);
    vestige_release(&v);
    close_scope(b);
    close_scope(a);
    assert_true(sum_of(&u) == 6);
    vestige_release(&u);
}

static void closing_a_scope_closes_those_inside(void **state) {
    (void)state;
    uint32_t a = open_scope();
    vestige_tensor t = count_up(3);
    uint32_t b = open_scope();
    vestige_tensor u = count_up(3), v = count_up(3);
    vestige_keep(&v, b);
    close_scope(a);
    assert_int_equal(vestige_alive(&t) + vestige_alive(&u) + vestige_alive(&v), 0);
    assert_int_equal(vestige_scope_close(b), VESTIGE_EHANDLE);
    assert_non_null(strstr(vestige_message(), "closed already"));
}

/* A kept reference counts up to 127 scopes to leave; past that it becomes a root. */
static void many_scopes_inside_each_other(void **state) {
    (void)state;
    enum { DEEP = 300 };
    uint32_t id[DEEP];
    for (int i = 0; i < DEEP; i++)
        id[i] = open_scope();
    vestige_tensor far = count_up(3), near = count_up(3);
    assert_int_equal(vestige_keep(&far, id[1]), VESTIGE_ROOT);
    assert_int_equal(vestige_keep(&near, id[200]), VESTIGE_OK);
    assert_int_equal(near._owner, id[199]);
    for (int i = DEEP; i-- > 200;)
        close_scope(id[i]);
    assert_true(sum_of(&near) == 6);
    close_scope(id[199]);
    assert_int_equal(vestige_alive(&near), 0);
    close_scope(id[0]);
    assert_true(sum_of(&far) == 6);
    vestige_release(&far);
}

/* ---- Allocator ---- */
static void memory_counts_whole_classes(void **state) {
    (void)state;
    static const int64_t asked[] = { 1, 64, 65, 80, 81, 127, 128, 129, 1000, 1 << 20, 3000000 };
    static const int64_t taken[] = { 64, 64, 80, 80, 96, 128, 128, 160, 1024, 1 << 20, 3 << 20 };
    for (int i = 0; i < COUNT(asked); i++) {
        int64_t start = memory().live;
        void *p;
        assert_int_equal(alloc_scratch(&p, asked[i]), VESTIGE_OK);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 1, (size_t)asked[i]);
        assert_int_equal(memory().live - start, taken[i]);
        free_scratch(p, asked[i]);
        assert_int_equal(memory().live, start);
    }
}

/* No class is more than a quarter larger than what was asked (above the smallest). */
static void classes_waste_at_most_a_fifth(void **state) {
    (void)state;
    int64_t start = memory().live;
    for (int64_t n = 65; n < 200000; n += 1 + n / 50) {
        void *p;
        assert_int_equal(alloc_scratch(&p, n), VESTIGE_OK);
        int64_t whole = memory().live - start;
        assert_true(whole >= n && (double)whole <= 1.25 * (double)n);
        free_scratch(p, n);
    }
}

static void freed_blocks_are_cached_and_used_again(void **state) {
    (void)state;
    vestige_empty_cache();
    assert_int_equal(memory().cached, 0);
    void *p, *q;
    alloc_scratch(&p, 1000);
    vestige_reset_peak();
    assert_int_equal(memory().peak, memory().live);
    free_scratch(p, 1000);
    assert_int_equal(memory().cached, 1024);
    assert_int_equal(memory().peak, memory().live + 1024);
    alloc_scratch(&q, 900);
    assert_ptr_equal(p, q);
    assert_int_equal(memory().cached, 0);
    free_scratch(q, 900);
    vestige_empty_cache();
    assert_int_equal(memory().cached, 0);
}

static void a_cap_makes_allocations_fail(void **state) {
    (void)state;
    vestige_tensor t;
    int64_t n = 1000;
    vestige_memory_cap(memory().live + 1000);
    int status = vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 1, &n, NULL, 0);
    vestige_memory_cap(0);
    assert_int_equal(status, VESTIGE_EMEMORY);
    assert_non_null(strstr(vestige_message(), "out of memory on cpu: 4000 bytes asked"));
    assert_non_null(strstr(vestige_message(), "a cap is set"));
    assert_int_equal(memory().live, before.live);
    assert_true(vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 1, &n, NULL, 0) >= 0);
    vestige_release(&t);
}

static void the_nth_allocation_fails_once(void **state) {
    (void)state;
    for (int n = 1; n < 4; n++) {
        void *p;
        vestige_fail_allocation(n);
        for (int i = 1; i < 6; i++) {
            clear_error();
            assert_int_equal(alloc_scratch(&p, 64), i == n ? VESTIGE_EMEMORY : VESTIGE_OK);
            if (i != n)
                free_scratch(p, 64);
        }
    }
    clear_error();
}

static void sizes_that_overflow_are_out_of_memory(void **state) {
    (void)state;
    static const int64_t dims[][3] = { { INT64_MAX, 2, 2 },
                                       { INT64_C(1) << 31, INT64_C(1) << 31, 4 },
                                       { INT64_C(1) << 50, 1, 1 },
                                       { INT64_C(1) << 62, 1, 1 } };
    vestige_tensor t;
    for (int i = 0; i < COUNT(dims); i++) {
        assert_int_equal(vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 3, dims[i], NULL, 0),
                         VESTIGE_EMEMORY);
        assert_non_null(strstr(vestige_message(), "out of memory"));
    }
    int64_t negative = -1, many[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    assert_int_equal(vestige_from_data(&t, 0, 0, 1, &negative, NULL, 0), VESTIGE_ESHAPE);
    assert_int_equal(vestige_from_data(&t, 0, 0, 9, many, NULL, 0), VESTIGE_ESHAPE);
    assert_int_equal(vestige_from_data(&t, 7, 0, 1, many, NULL, 0), VESTIGE_ETYPE);
    assert_int_equal(vestige_from_data(&t, 0, 2, 1, many, NULL, 0), VESTIGE_EDEVICE);
    assert_int_equal(vestige_from_data(&t, 0, 0, 1, many, many, 5), VESTIGE_ESHAPE);
}

/* Nothing has no more elements in a large shape than in a small one. */
static void an_empty_tensor_does_not_become_a_huge_one(void **state) {
    (void)state;
    int64_t none = 0;
    vestige_tensor t, out;
    vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 1, &none, NULL, 0);
    double slots[9] = { 2, 0x1p32, 0x1p32 };
    const vestige_tensor *in[] = { &t };
    vestige_call c = { .op = op("reshape"), .nin = 1, .in = in, .opt = slots, .out = { &out } };
    assert_int_equal(vestige_run(&c), VESTIGE_ESHAPE);
    static const double odd[] = { 1e300, 0.5, -INFINITY };
    for (int i = 0; i < COUNT(odd); i++) {
        slots[1] = odd[i];
        assert_int_equal(vestige_run(&c), VESTIGE_EVALUE);
        assert_non_null(strstr(vestige_message(), "option size: expected a whole number"));
    }
    slots[0] = 9;
    assert_int_equal(vestige_run(&c), VESTIGE_EVALUE);
    vestige_release(&t);
}

/* All slots of the slab taken: an error like any other, and nothing is lost. */
static void more_tensors_than_the_slab_holds(void **state) {
    (void)state;
    extern int64_t slab_limit;
    int64_t was = slab_limit, one = 1;
    uint32_t id = open_scope();
    slab_limit = 0; /* only freed slots are left */
    vestige_tensor t;
    int status;
    while ((status = vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 1, &one, NULL, 0)) >= 0)
        continue;
    assert_int_equal(status, VESTIGE_EMEMORY);
    assert_non_null(strstr(vestige_message(), "tensors are alive"));
    slab_limit = was;
    assert_true(vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 1, &one, NULL, 0) >= 0);
    close_scope(id);
}

/* ---- Storage ---- */
static void views_share_storage_and_its_version(void **state) {
    (void)state;
    vestige_tensor t = count_up(4), view;
    double slots[9] = { 2, 2, 2 };
    const vestige_tensor *in[] = { &t };
    vestige_call c = { .op = op("reshape"), .nin = 1, .in = in, .opt = slots, .out = { &view } };
    assert_true(vestige_run(&c) >= 0);
    T a = t._p, b = view._p;
    assert_ptr_equal(a->store, b->store);
    assert_int_equal(a->store->refs, 2);
    vestige_tensor none;
    assert_true(vestige_run2n(op("mul_"), &none, &view, 2) >= 0);
    vestige_tensor_info info;
    vestige_describe(&t, &info);
    assert_int_equal(info.version, 1);
    vestige_release(&view);
    assert_true(sum_of(&t) == 20);
    float fresh[4] = { 1, 1, 1, 1 };
    assert_int_equal(vestige_set_data(&t, fresh, 15), VESTIGE_ESHAPE);
    assert_int_equal(vestige_set_data(&t, fresh, 16), VESTIGE_OK);
    vestige_describe(&t, &info);
    assert_int_equal(info.version, 2);
    vestige_release(&t);
}

/* ---- Philox ---- */
static void philox_gives_the_published_words(void **state) {
    (void)state;
    /* Random123 1.14, kat_vectors, philox4x32-10 */
    static const uint32_t known[3][10] = {
        { 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
        { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d,
          0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
        { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09,
          0x94fdcceb, 0x5001e420, 0x24126ea1 },
    };
    for (int i = 0; i < 3; i++) {
        uint32_t word[4];
        vestige_philox(word, known[i], known[i] + 4);
        assert_memory_equal(word, known[i] + 6, sizeof word);
    }
}

static void uniforms_are_uniform(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    double mean = 0, square = 0;
    for (int i = 0; i < N; i++) {
        double u = philox_uniform(1, 2, (uint64_t)i);
        assert_true(u >= 0 && u < 1);
        mean += u / N;
        square += u * u / N;
    }
    assert_true(fabs(mean - 0.5) < 5 * sqrt(1.0 / 12 / N));
    assert_true(fabs(square - 1.0 / 3) < 5 * sqrt(4.0 / 45 / N));
}

static void normals_have_their_moments_and_tails(void **state) {
    (void)state;
    enum { N = 1 << 22 };
    double moment[5] = { 0 }, tail[6] = { 0 }, lag = 0, last = 0;
    for (int i = 0; i < N; i++) {
        double x = philox_normal(42, 7, (uint64_t)i);
        assert_true(isfinite(x));
        double power = x;
        for (int k = 1; k <= 4; k++, power *= x)
            moment[k] += power / N;
        for (int k = 1; k <= 5; k++)
            tail[k] += fabs(x) > k;
        lag += x * last / N;
        last = x;
    }
    double s = 5 / sqrt(N);
    assert_true(fabs(moment[1]) < s);
    assert_true(fabs(moment[2] - 1) < s * sqrt(2));
    assert_true(fabs(moment[3]) < s * sqrt(15));
    assert_true(fabs(moment[4] - 3) < s * sqrt(96));
    assert_true(fabs(lag) < s);
    for (int k = 1; k <= 5; k++) {
        double expected = N * erfc(k / sqrt(2));
        assert_true(fabs(tail[k] - expected) < 5 * sqrt(expected) + 1);
    }
}

static void streams_of_near_names_and_seeds_are_far(void **state) {
    (void)state;
    static const char *const names[] = { "", "a", "b", "ab", "ba", "init", "init2" };
    uint64_t key[5 * COUNT(names)];
    int n = 0;
    for (uint64_t seed = 0; seed < 5; seed++)
        for (int i = 0; i < COUNT(names); i++)
            key[n++] = vestige_stream_key(seed, names[i]);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            assert_true(__builtin_popcountll(key[i] ^ key[j]) > 8);
}

/* A draw that fails for want of memory leaves the stream where it was. */
static void a_failed_draw_does_not_move_the_stream(void **state) {
    (void)state;
    double slots[64];
    int randn = op("randn");
    memcpy(slots, vestige_op_row(randn)->presets, 10 * sizeof *slots);
    slots[0] = 1, slots[1] = 5;
    vestige_tensor out;
    vestige_stream was, now;
    vestige_call c = { .op = randn, .opt = slots, .out = { &out } };
    for (int n = 1; n < 3; n++) {
        vestige_stream_get(&was);
        vestige_fail_allocation(n);
        assert_int_equal(vestige_run(&c), VESTIGE_EMEMORY);
        vestige_fail_allocation(0);
        vestige_stream_get(&now);
        assert_true(was.key == now.key && was.offset == now.offset);
    }
    assert_true(vestige_run(&c) >= 0);
    vestige_stream_get(&now);
    assert_true(now.offset > was.offset);
    vestige_release(&out);
}

/* ---- The ref device ---- */
static int status_of_child(void (*body)(T), T t) {
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr))
            body(t);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void touch(T t) {
    *(volatile float *)t->data = 1;
}

static void touch_open(T t) {
    ref_open();
    touch(t);
    ref_close();
}

static void memory_of_ref_is_closed_outside_its_kernels(void **state) {
    (void)state;
    int64_t n = 3;
    float data[3] = { 1, 2, 3 }, back[3];
    vestige_tensor t, u;
    vestige_from_data(&t, VESTIGE_F32, VESTIGE_REF, 1, &n, data, 12);
    assert_int_equal(status_of_child(touch_open, t._p), 0);
    assert_int_not_equal(status_of_child(touch, t._p), 0);
    assert_true(vestige_run2n(op("mul"), &u, &t, 2) >= 0);
    assert_int_not_equal(status_of_child(touch, u._p), 0);
    assert_int_equal(vestige_to_data(&u, back, 12), VESTIGE_OK);
    assert_true(back[0] == 2 && back[2] == 6);
    vestige_tensor cpu = count_up(3), out;
    assert_int_equal(vestige_run2(op("mul"), &out, &t, &cpu), VESTIGE_EDEVICE);
    assert_string_equal(vestige_message(),
                        "mul: inputs are on ref and cpu; move one with :to(device)");
    vestige_release(&t);
    vestige_release(&u);
    vestige_release(&cpu);
}

/* ---- Interrupts ---- */
static void an_interrupt_stops_the_next_operator(void **state) {
    (void)state;
    vestige_tensor t = count_up(3), out;
    vestige_interrupt();
    assert_int_equal(vestige_interrupt_pending(), 1);
    assert_int_equal(vestige_run1(op("neg"), &out, &t), VESTIGE_EINTERRUPTED);
    assert_int_equal(vestige_run1(op("neg"), &out, &t), VESTIGE_EINTERRUPTED);
    vestige_clear_interrupt();
    assert_true(vestige_run1(op("neg"), &out, &t) >= 0);
    vestige_release(&out);
    vestige_release(&t);
}

/* ---- In place ---- */
static void an_input_that_overlaps_the_target_is_read_before(void **state) {
    (void)state;
    float data[6] = { 1, 2, 3, 4, 5, 6 }, back[6];
    int64_t dim[2] = { 2, 3 };
    vestige_tensor t, row, none;
    vestige_from_data(&t, VESTIGE_F32, VESTIGE_CPU, 2, dim, data, 24);
    T view, whole = t._p;
    tensor_view(&view, whole, 0, 1, dim + 1);
    handle_out(&row, view);
    assert_true(vestige_run2(op("sub_"), &none, &t, &row) >= 0);
    vestige_to_data(&t, back, 24);
    static const float expected[6] = { 0, 0, 0, 3, 3, 3 };
    assert_memory_equal(back, expected, 24);
    vestige_release(&row);
    vestige_release(&t);
}

static void gradients_are_not_lost_in_place(void **state) {
    (void)state;
    vestige_tensor t = count_up(3), w = count_up(3), none;
    vestige_requires_grad(&w, 1);
    assert_int_equal(vestige_run2(op("add_"), &none, &t, &w), VESTIGE_EGRAD);
    assert_non_null(strstr(vestige_message(), "add_: b requires grad"));
    int was = vestige_grad_mode(0);
    assert_true(vestige_run2(op("add_"), &none, &t, &w) >= 0);
    vestige_grad_mode(was);
    vestige_release(&t);
    vestige_release(&w);
}

/* ---- Walks ---- */
static int walk(const vestige_tensor *out, const vestige_tensor *in, vestige_tensor *gradient) {
    vestige_walk *w;
    const vestige_tensor *outs[] = { out }, *ins[] = { in };
    int status = vestige_walk_new(&w, 1, outs, NULL, 1, ins, VESTIGE_RETAIN_GRAPH);
    if (status < 0)
        return status;
    status = vestige_walk_run(w);
    if (status >= 0)
        status = vestige_walk_result(w, 0, gradient);
    vestige_walk_free(w);
    return status;
}

/* A walk that runs out of memory while it is planned leaves no mark on the graph. */
static void a_failed_walk_can_be_made_again(void **state) {
    (void)state;
    uint32_t id = open_scope();
    vestige_tensor x = count_up(1), y = x, gradient;
    vestige_requires_grad(&x, 1);
    for (int i = 0; i < 200; i++)
        assert_true(vestige_run2n(op("mul"), &y, &y, i % 2 ? 0.5 : 2) >= 0);
    int n = 0, status;
    do {
        vestige_memory_info start = memory();
        vestige_fail_allocation(++n);
        status = walk(&y, &x, &gradient);
        vestige_fail_allocation(0);
        if (status < 0) {
            assert_int_equal(status, VESTIGE_EMEMORY);
            assert_int_equal(memory().live, start.live);
            assert_int_equal(memory().tensors, start.tensors);
        }
        vestige_tensor again;
        assert_true(walk(&y, &x, &again) >= 0);
        assert_true(sum_of(&again) == 1);
        vestige_release(&again);
    } while (status < 0);
    assert_true(n > 20);
    close_scope(id);
}

int main(void) {
#define T_(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T_(released_and_stale_handles_are_found_out),
        T_(an_alias_holds_its_own_reference),
        T_(a_root_slot_is_given_back_once),
        T_(root_slots_are_used_again),
        T_(a_scope_drops_what_it_made),
        T_(kept_tensors_go_out_one_scope_at_a_time),
        T_(a_tensor_is_kept_through_several_scopes_at_once),
        T_(keeping_does_not_move_what_is_outside_already),
        T_(a_handle_whose_scope_is_gone_can_be_kept),
        T_(release_finds_kept_tensors),
        T_(closing_a_scope_closes_those_inside),
        T_(many_scopes_inside_each_other),
        T_(memory_counts_whole_classes),
        T_(classes_waste_at_most_a_fifth),
        T_(freed_blocks_are_cached_and_used_again),
        T_(a_cap_makes_allocations_fail),
        T_(the_nth_allocation_fails_once),
        T_(sizes_that_overflow_are_out_of_memory),
        T_(an_empty_tensor_does_not_become_a_huge_one),
        T_(more_tensors_than_the_slab_holds),
        T_(views_share_storage_and_its_version),
        T_(philox_gives_the_published_words),
        T_(uniforms_are_uniform),
        T_(normals_have_their_moments_and_tails),
        T_(streams_of_near_names_and_seeds_are_far),
        T_(a_failed_draw_does_not_move_the_stream),
        T_(memory_of_ref_is_closed_outside_its_kernels),
        T_(an_interrupt_stops_the_next_operator),
        T_(an_input_that_overlaps_the_target_is_read_before),
        T_(gradients_are_not_lost_in_place),
        T_(a_failed_walk_can_be_made_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

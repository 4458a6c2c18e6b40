/* kept.c: what kernels made of data that does not change, kept with its storage for the next time:
 * the weights of a convolution in Winograd's form, say. Core knows no kernel: such a form is a
 * block of bytes with a key.
 *
 * A form is kept from the second time on that it is asked for without a change of the data between.
 * The first time leaves a mark in the storage and costs nothing, so what is used once a version, as
 * weights are in a train step, is never kept. A change, or the end of the storage, ends its forms.
 *
 * All together take no more than a budget. A newcomer takes the place of the form that was not used
 * for the longest time, but only of one that was not used since the newcomer itself was asked for
 * the last time: where a round of uses does not fit, a part of it stays, instead of each form
 * falling just before its turn. */
#include "core/core.h"

enum { HEAD = 64 }; /* bytes before the data, which is aligned like any block */
_Static_assert(sizeof(kept_form) <= HEAD, "a kept form's head lies before its data");

static struct {
    kept_form *newest, *oldest;
    int64_t bytes, budget;
    uint32_t clock; /* counts what is asked for */
} all = { .budget = KEPT_BUDGET };

static void unlink_use(kept_form *k) {
    *(k->newer ? &k->newer->older : &all.newest) = k->older;
    *(k->older ? &k->older->newer : &all.oldest) = k->newer;
}

static void link_newest(kept_form *k) {
    k->newer = NULL;
    k->older = all.newest;
    *(k->older ? &k->older->newer : &all.oldest) = k;
    all.newest = k;
}

static void drop(kept_form *k) {
    kept_form **at = &k->of->kept;
    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    unlink_use(k);
    all.bytes -= k->bytes;
    block_free(k, (size_t)k->bytes);
}

/* Forms that have not been used since `time` go until there is room for so many bytes. */
static bool make_room(int64_t bytes, uint32_t time) {
    while (all.bytes + bytes > all.budget) {
        if (!all.oldest || (int32_t)(all.oldest->used - time) >= 0)
            return false;
        drop(all.oldest);
    }
    return true;
}

kept_form *keep_form(storage *s, const void *from, int form, int64_t shape, int64_t bytes) {
    uint32_t before = s->asked[form], now = all.clock = all.clock + 1 ? all.clock + 1 : 1;
    s->asked[form] = now;
    for (kept_form *k = s->kept; k; k = k->next)
        if (k->form == form && k->from == from && k->shape == shape) {
            unlink_use(k);
            link_newest(k);
            k->used = now;
            return k;
        }
    bytes = block_bytes(bytes + HEAD);
    if (!before || !make_room(bytes, before))
        return NULL;
    kept_form *k = block_spare((size_t)bytes);
    if (!k)
        return NULL;
    *k = (kept_form){ .of = s,
                      .next = s->kept,
                      .from = from,
                      .shape = shape,
                      .bytes = bytes,
                      .form = (uint8_t)form,
                      .used = now };
    s->kept = k;
    link_newest(k);
    all.bytes += bytes;
    return k;
}

void *kept_data(kept_form *k) {
    return (char *)k + HEAD;
}

void drop_kept(storage *s) {
    while (s->kept)
        drop(s->kept);
}

bool drop_unused(void) {
    int64_t before = all.bytes;
    while (all.oldest && all.oldest != all.newest)
        drop(all.oldest);
    return all.bytes < before;
}

int64_t kept_bytes(void) {
    return all.bytes;
}

int64_t vestige_weight_cache(int64_t bytes) {
    int64_t was = all.budget;
    if (bytes >= 0)
        all.budget = bytes;
    while (all.bytes > all.budget)
        drop(all.oldest);
    return was;
}

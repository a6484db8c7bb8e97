// The sums of a tile, section after section: what its rows make of all spans that they see.
#pragma once

#include "attention_rows.h"

enum { SECTION = 8 * SPAN };  // positions

// Sums of some of `num_rows` rows, from `row` on, that have their place in `memory`.
static Sums sums_at(float *memory, int64_t num_rows, int64_t row, int columns) {
    float *sum = memory + num_rows, *mixed = sum + num_rows * WIDTH;
    return (Sums){memory + row, (wide *)(sum + row * WIDTH), mixed + row * columns};
}

static int64_t sums_floats(int64_t num_rows, int columns) { return num_rows * (1 + WIDTH + columns); }

static int num_rows(const Tile *tile) { return tile->num_tokens * tile->num_heads; }

// The first position that a token sees, and the end of those that some row of a tile does.
static int first_seen(int position, int window) {
    return window ? greatest(0, position - window + 1) : 0;
}

static int first_section(const Tile *tile) {
    return first_seen(tile->first_position, tile->window) / SECTION;
}

static int end_seen(const Tile *tile) { return tile->first_position + tile->num_tokens; }

// So few rows meet vectors that are joined for them alone: packing takes longer.
static int is_packed(const Tile *tile) { return num_rows(tile) > ROWS || tile->dim % WIDTH; }

// The tokens of a tile that see a span are neighbours: later ones see it, until the window ends.
static void attend_span(const Sums *sums, const Tile *tile, const Span *span) {
    int token = greatest(0, span->begin - tile->first_position), end = tile->num_tokens;
    if (tile->window)
        end = least(end, span->begin + SPAN - 1 + tile->window - tile->first_position);
    int row = token * tile->num_heads, end_row = end * tile->num_heads;
    for (int rows = ROWS; rows; rows /= 2)
        for (; row + rows <= end_row; row += rows)
            attend_rows(sums, tile, row, span, rows, is_packed(tile));
}

static void clear(const Sums *sums, const Tile *tile) {
    memset(sums->mixed, 0, num_rows(tile) * whole_vectors(tile->dim) * sizeof(float));
    memset(sums->sum, 0, num_rows(tile) * sizeof(wide));
    for (int row = 0; row < num_rows(tile); row++) sums->max[row] = -1e30f;
}

// What comes after a span: what of the tile there is from `begin` on before `end`, or the next tile.
static void find_next(Pieces *next, const Tile *tile, const Cache *cache, int begin, int end) {
    if (begin < end)
        find_pieces(next, cache, tile->sequence, tile->kv, begin, least(end, begin + SPAN));
    else if (tile->next_position >= 0) {
        int first = first_seen(tile->next_position, tile->window);
        int past = least(first / SPAN * SPAN + SPAN, tile->next_position + 1);
        find_pieces(next, cache, tile->next_sequence, tile->kv, first, past);
    }
}

// The sums of a tile over one section; positions before `past` are asked for ahead.
static void attend_section(const Sums *sums, const Tile *tile, const Cache *cache, int section,
                           int past) {
    int from = greatest(first_seen(tile->first_position, tile->window), section * SECTION);
    int end = least(end_seen(tile), (section + 1) * SECTION);
    Span span;
    span.dim = cache->head_dim;
    span.block_tokens = cache->block_tokens;
    find_pieces(&span.next, cache, tile->sequence, tile->kv, from, least(end, from / SPAN * SPAN + SPAN));
    clear(sums, tile);
    for (int begin = from / SPAN * SPAN; begin < end; begin += SPAN) {
        span.begin = begin;
        span.first = greatest(0, from - begin);
        span.end = least(SPAN, end - begin);
        span.here = span.next;
        find_next(&span.next, tile, cache, begin + SPAN, least(past, end_seen(tile)));
        cut_values(&span);
        if (is_packed(tile)) {
            pack_keys(&span);
            pack_values(&span);
        }
        attend_span(sums, tile, &span);
    }
}

// Adds the sums of a later section. One without keys that a row sees changes nothing, to the bit.
DISPATCHED static void merge(const Sums *total, const Sums *part, const Tile *tile) {
    int columns = whole_vectors(tile->dim);
    for (int row = 0; row < num_rows(tile); row++) {
        float max = total->max[row] > part->max[row] ? total->max[row] : part->max[row];
        float kept = exp2_float(total->max[row] - max), added = exp2_float(part->max[row] - max);
        total->max[row] = max;
        total->sum[row] = kept * total->sum[row] + added * part->sum[row];
        for (int i = row * columns; i < (row + 1) * columns; i += WIDTH) {
            wide *mixed = (wide *)(total->mixed + i);
            *mixed = kept * *mixed + added * *(const wide *)(part->mixed + i);
        }
    }
}

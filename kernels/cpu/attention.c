// Causal attention over the paged KV cache; see KvLayout for the layout.
//
// A tile is up to TILE_ROWS query rows that look at the same keys: the heads of one KV head, for as
// many consecutive tokens as fit. Keys come in spans, packed once for all rows of a tile. Spans begin
// where SPAN divides the position, and every SECTION positions the softmax begins anew, to be merged
// with what came before: so the sections of a long context can be worked on at the same time.
// A token's result does not depend on how its prompt was cut, on the batch, or on the threads.
#include <stdlib.h>

#include "attention_tile.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_max_threads(void) { return 1; }
#endif

enum { ITEMS_PER_THREAD = 4 };

// One call. `parts` is room for the sums of every row in each section, where sections are worked on
// apart, or null.
typedef struct {
    const Cache *cache;
    scalar *out;
    const scalar *queries;
    int64_t query_stride;
    float scale;
    int window;
    float *parts;
} Call;

static Sums part_of(const Call *call, int section, int64_t row) {
    const Cache *cache = call->cache;
    int64_t num_rows = (int64_t)cache->num_tokens * cache->num_q_heads;
    int columns = whole_vectors(cache->head_dim);
    return sums_at(call->parts + section * sums_floats(num_rows, columns), num_rows, row, columns);
}

// A tile of some heads of a run of tokens, with its queries.
static void start_tile(Tile *tile, const Call *call, int token, int head) {
    int dim = tile->dim;
    operand *to = tile->queries;
    for (int row = 0; row < num_rows(tile); row++, to += QUERY_STRIDE) {
        const scalar *query = call->queries +
                              (token + row / tile->num_heads) * call->query_stride +
                              (head + row % tile->num_heads) * dim;
        for (int i = 0; i < dim; i++) to[i] = to_operand(query[i]);
        if (dim % STEP) to[dim] = 0;
    }
}

static void finish_tile(const Tile *tile, const Call *call, const Sums *sums, int token, int head) {
    int dim = tile->dim, columns = whole_vectors(dim);
    for (int row = 0; row < num_rows(tile); row++) {
        const float *mixed = sums->mixed + row * columns;
        int64_t out_row = (int64_t)(token + row / tile->num_heads) * call->cache->num_q_heads;
        scalar *out = call->out + (out_row + head + row % tile->num_heads) * dim;
        float sum = sum_wide(sums->sum[row]);
        for (int i = 0; i < dim; i++) out[i] = store(mixed[i] / sum);
    }
}

// All sections of a tile, one after the other.
static void attend_tile(const Tile *tile, const Call *call, int token, int head) {
    float memory[2][TILE_ROWS * (1 + WIDTH + MAX_HEAD_DIM)];
    int columns = whole_vectors(tile->dim), section = first_section(tile);
    Sums total = sums_at(memory[0], num_rows(tile), 0, columns);
    Sums part = sums_at(memory[1], num_rows(tile), 0, columns);
    attend_section(&total, tile, call->cache, section, end_seen(tile));
    while (++section * SECTION < end_seen(tile)) {
        attend_section(&part, tile, call->cache, section, end_seen(tile));
        merge(&total, &part, tile);
    }
    finish_tile(tile, call, &total, token, head);
}

// What attend_tile does, when all sections have been worked on apart.
static void merge_tile(const Tile *tile, const Call *call, int token, int head, int64_t row) {
    int section = first_section(tile);
    Sums total = part_of(call, section, row);
    while (++section * SECTION < end_seen(tile)) {
        Sums part = part_of(call, section, row);
        merge(&total, &part, tile);
    }
    finish_tile(tile, call, &total, token, head);
}

enum { MERGE = -1 };

// The query heads of one KV head for a run of tokens, TILE_ROWS heads at a time: one section of
// them, or MERGE, if the call has `parts`.
static void attend_run(const Call *call, int token, int num_tokens, int limit, int kv,
                       int section) {
    const Cache *cache = call->cache;
    int group = cache->num_q_heads / cache->num_kv_heads, next = token + num_tokens;
    for (int head = kv * group; head < (kv + 1) * group; head += TILE_ROWS) {
        Tile tile;
        tile.sequence = cache->sequence[token];
        tile.kv = kv;
        tile.first_position = cache->positions[token];
        tile.num_tokens = num_tokens;
        tile.num_heads = least(TILE_ROWS, (kv + 1) * group - head);
        tile.window = call->window;
        tile.dim = cache->head_dim;
        tile.scale = call->scale * 1.44269504f;
        tile.next_sequence = next < limit ? cache->sequence[next] : -1;
        tile.next_position = next < limit && !call->parts ? cache->positions[next] : -1;
        int64_t row = (int64_t)head * cache->num_tokens + token * tile.num_heads;
        if (section == MERGE) {
            merge_tile(&tile, call, token, head, row);
            continue;
        }
        start_tile(&tile, call, token, head);
        if (!call->parts) attend_tile(&tile, call, token, head);
        else if (section >= first_section(&tile) && section * SECTION < end_seen(&tile)) {
            Sums part = part_of(call, section, row);
            attend_section(&part, &tile, cache, section, (section + 1) * SECTION);
        }
    }
}

// How many of the tokens [token, limit) follow each other in one sequence; padding follows nothing.
static int run_length(const Cache *cache, int token, int limit) {
    int end = token + 1;
    while (end < limit && cache->positions[token] >= 0 &&
           cache->sequence[end] == cache->sequence[token] &&
           cache->positions[end] == cache->positions[token] + end - token)
        end++;
    return end - token;
}

static void attend_tokens(const Call *call, int token, int limit, int kv, int section) {
    const Cache *cache = call->cache;
    int64_t width = (int64_t)cache->num_q_heads * cache->head_dim;
    for (int count; token < limit; token += count) {
        count = run_length(cache, token, limit);
        if (cache->positions[token] >= 0) attend_run(call, token, count, limit, kv, section);
        else if (kv == 0) memset(call->out + token * width, 0, width * sizeof(scalar));
    }
}

// The sections of the longest context; 1 if there are tiles enough for all threads.
static int sections_apart(const Cache *cache, int num_tiles) {
    int last = 0;
    if (num_tiles >= ITEMS_PER_THREAD * omp_get_max_threads()) return 1;
    for (int token = 0; token < cache->num_tokens; token++)
        last = greatest(last, cache->positions[token]);
    return last / SECTION + 1;
}

EXPORT void attention(const Cache *cache, scalar *out, const scalar *queries, int64_t query_stride,
                      float scale, int32_t window, int32_t in_parallel) {
    int num_tokens = cache->num_tokens, group = cache->num_q_heads / cache->num_kv_heads;
    int tile_tokens = greatest(1, TILE_ROWS / group), num_kv_heads = cache->num_kv_heads;
    int num_tiles = (num_tokens + tile_tokens - 1) / tile_tokens * num_kv_heads;
    int num_sections = in_parallel ? sections_apart(cache, num_tiles) : 1;
    Call call = {cache, out, queries, query_stride, scale, window, 0};
    if (num_sections > 1) {
        int64_t rows = (int64_t)num_tokens * cache->num_q_heads;
        int64_t floats = num_sections * sums_floats(rows, whole_vectors(cache->head_dim));
        call.parts = malloc(floats * sizeof(float));
        if (!call.parts) num_sections = 1;
    }
#pragma omp parallel if (in_parallel)
    {
#pragma omp for collapse(3) schedule(dynamic)
        for (int kv = 0; kv < num_kv_heads; kv++)
            for (int token = 0; token < num_tokens; token += tile_tokens)
                for (int section = 0; section < num_sections; section++)
                    attend_tokens(&call, token, least(num_tokens, token + tile_tokens), kv, section);
        if (call.parts) {
#pragma omp for collapse(2)
            for (int token = 0; token < num_tokens; token += tile_tokens)
                for (int kv = 0; kv < num_kv_heads; kv++)
                    attend_tokens(&call, token, least(num_tokens, token + tile_tokens), kv, MERGE);
        }
    }
    free(call.parts);
}

// Causal attention over the paged KV cache; see KvLayout for the layout.
//
// A tile is up to TILE_ROWS query rows that look at the same keys: the heads of one KV head, for as
// many consecutive tokens as fit. A block of LANES keys is loaded once for ROWS rows at a time.
// Every row does the same arithmetic in the same order whatever shares its tile, so that a token's
// result does not depend on how its prompt was cut, or on the batch.
#include "kv_cache.h"
#include "lanes.h"

enum { TILE_ROWS = 16, ROWS = 4 };

typedef struct {
    int first_position, num_tokens, num_heads, window;  // row = token * num_heads + head
    int dim, block_tokens;
    int position[TILE_ROWS];
    float max[TILE_ROWS], sum[TILE_ROWS];  // online: `sum` and `mixed` are relative to `max`
    float queries[TILE_ROWS * MAX_HEAD_DIM], mixed[TILE_ROWS * MAX_HEAD_DIM];
} Tile;

typedef struct {
    int begin;  // position of the first key
    const scalar *keys, *values;
} Block;

static int least(int a, int b) { return a < b ? a : b; }
static int greatest(int a, int b) { return a > b ? a : b; }

// The lanes of a block that a row may see: [first, end).
INLINE int first_lane(const Tile *tile, int row, int begin) {
    return tile->window ? greatest(0, tile->position[row] - tile->window + 1 - begin) : 0;
}

INLINE int end_lane(const Tile *tile, int row, int begin) {
    return least(LANES, tile->position[row] + 1 - begin);
}

// scores[row][lane] = query . key; two sums a row hide the latency of one.
INLINE void score(float (*scores)[LANES], const float *queries, const scalar *k, int dim,
                  int block_tokens, int rows) {
    vec sums[ROWS][2] = {0}, key;
    for (int d = 0; d < dim; d += 2)
        for (int part = 0; part < 2; part++) {
            load_vec(&key, k + (int64_t)(d + part) * block_tokens);
            for (int row = 0; row < rows; row++)
                sums[row][part] += queries[row * dim + d + part] * key;
        }
    for (int row = 0; row < rows; row++) {
        vec total = sums[row][0] + sums[row][1];
        memcpy(scores[row], &total, sizeof total);
    }
}

// Scores become weights, and `rescale` what the sums so far are multiplied with.
DISPATCHED static void soften(Tile *tile, int first_row, int rows, int begin,
                              float (*scores)[LANES], float *rescale) {
    for (int i = 0; i < rows; i++) {
        int row = first_row + i;
        ints seen = lanes_between(first_lane(tile, row, begin), end_lane(tile, row, begin));
        vec *weights = (vec *)scores[i], masked = pick(seen, *weights, all_lanes(-1e30f));
        float highest = max_lane(masked), max = tile->max[row];
        max = highest > max ? highest : max;
        *weights = (vec)(seen & (ints)exp_lanes(masked - max));
        rescale[i] = fast_exp(tile->max[row] - max);
        tile->sum[row] = tile->sum[row] * rescale[i] + sum_lanes(*weights);
        tile->max[row] = max;
    }
}

// Elements [d, dim) of one row, what is left beside whole vectors. Lanes come outermost: nothing is
// there for the compiler to add up in another order.
DISPATCHED static void mix_rest(float *mixed, float rescale, const float *weights, const scalar *v,
                                int first, int end, int dim, int d) {
    for (int i = d; i < dim; i++) mixed[i] *= rescale;
    for (int lane = first; lane < end; lane++)
        for (int i = d; i < dim; i++) mixed[i] += weights[lane] * load(v[lane * dim + i]);
}

// mixed = mixed * rescale + weights . values, `columns` vectors at a time.
INLINE int mix(float *mixed, const float *rescale, float (*weights)[LANES], const scalar *v,
               int first, int end, int dim, int d, int rows, int columns) {
    for (; d + columns * LANES <= dim; d += columns * LANES) {
        vec totals[ROWS][4], value;
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++)
                totals[row][column] =
                    rescale[row] * *(vec *)(mixed + row * dim + d + column * LANES);
        for (int lane = first; lane < end; lane++)
            for (int column = 0; column < columns; column++) {
                load_vec(&value, v + lane * dim + d + column * LANES);
                for (int row = 0; row < rows; row++)
                    totals[row][column] += weights[row][lane] * value;
            }
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++)
                *(vec *)(mixed + row * dim + d + column * LANES) = totals[row][column];
    }
    return d;
}

// Adds a block of keys to the running softmax of some rows of a tile.
INLINE void attend(Tile *tile, int row, const Block *block, int rows) {
    float scores[ROWS][LANES], rescale[ROWS];
    int dim = tile->dim, d;
    float *mixed = tile->mixed + row * dim;
    const scalar *values = block->values;
    score(scores, tile->queries + row * dim, block->keys, dim, tile->block_tokens, rows);
    soften(tile, row, rows, block->begin, scores, rescale);
    int first = first_lane(tile, row, block->begin);
    int end = end_lane(tile, row + rows - 1, block->begin);
    d = mix(mixed, rescale, scores, values, first, end, dim, 0, rows, rows == 1 ? 4 : 2);
    d = mix(mixed, rescale, scores, values, first, end, dim, d, rows, 1);
    for (int i = 0; i < rows && d < dim; i++)
        mix_rest(mixed + i * dim, rescale[i], scores[i], values, first, end, dim, d);
}

DISPATCHED static void attend_rows(Tile *tile, int row, const Block *block) {
    attend(tile, row, block, ROWS);
}

DISPATCHED static void attend_row(Tile *tile, int row, const Block *block) {
    attend(tile, row, block, 1);
}

// The tokens of a tile that see a block are neighbours: later ones see it, until the window ends.
static void attend_block(Tile *tile, const Block *block) {
    int token = greatest(0, block->begin - tile->first_position), end = tile->num_tokens;
    if (tile->window)
        end = least(end, block->begin + LANES - 1 + tile->window - tile->first_position);
    int row = token * tile->num_heads, end_row = end * tile->num_heads;
    for (; row + ROWS <= end_row; row += ROWS) attend_rows(tile, row, block);
    for (; row < end_row; row++) attend_row(tile, row, block);
}

static void start_tile(Tile *tile, const scalar *queries, int64_t query_stride, float scale) {
    int width = tile->num_heads * tile->dim;
    for (int token = 0; token < tile->num_tokens; token++)
        for (int i = 0; i < width; i++)
            tile->queries[token * width + i] = scale * load(queries[token * query_stride + i]);
    memset(tile->mixed, 0, (size_t)tile->num_tokens * width * sizeof(float));
    for (int row = 0; row < tile->num_tokens * tile->num_heads; row++) {
        tile->position[row] = tile->first_position + row / tile->num_heads;
        tile->max[row] = -1e30f;
        tile->sum[row] = 0;
    }
}

static void finish_tile(const Tile *tile, scalar *out, int64_t out_stride) {
    int width = tile->num_heads * tile->dim;
    for (int token = 0; token < tile->num_tokens; token++)
        for (int i = 0; i < width; i++) {
            int row = token * tile->num_heads + i / tile->dim;
            out[token * out_stride + i] = store(tile->mixed[token * width + i] / tile->sum[row]);
        }
}

// Attention of a tile whose queries are set up, over the keys and values of one KV head.
static void attend_tile(const Cache *cache, Tile *tile, int sequence, int kv) {
    int end = tile->first_position + tile->num_tokens;
    int first = tile->window ? greatest(0, tile->first_position - tile->window + 1) : 0;
    for (int begin = first / LANES * LANES; begin < end; begin += LANES) {
        int lane = begin % cache->block_tokens;
        Block block = {
            .begin = begin,
            .keys = kv_head(cache, sequence, begin, KEYS, kv) + lane,
            .values = kv_head(cache, sequence, begin, VALUES, kv) + lane * cache->head_dim,
        };
        attend_block(tile, &block);
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

typedef struct {
    scalar *out;
    const scalar *queries;
    int64_t query_stride;
    float scale;
    int window;
} Call;

// The query heads of one KV head for a run of tokens, TILE_ROWS heads at a time.
static void attend_run(const Cache *cache, const Call *call, int token, int num_tokens, int kv) {
    int dim = cache->head_dim, group = cache->num_q_heads / cache->num_kv_heads;
    int64_t out_stride = (int64_t)cache->num_q_heads * dim;
    for (int head = kv * group; head < (kv + 1) * group; head += TILE_ROWS) {
        Tile tile;
        tile.first_position = cache->positions[token];
        tile.num_tokens = num_tokens;
        tile.num_heads = least(TILE_ROWS, (kv + 1) * group - head);
        tile.window = call->window;
        tile.dim = dim;
        tile.block_tokens = cache->block_tokens;
        start_tile(&tile, call->queries + token * call->query_stride + head * dim,
                   call->query_stride, call->scale);
        attend_tile(cache, &tile, cache->sequence[token], kv);
        finish_tile(&tile, call->out + token * out_stride + head * dim, out_stride);
    }
}

EXPORT void attention(const Cache *cache, scalar *out, const scalar *queries, int64_t query_stride,
                      float scale, int32_t window, int32_t in_parallel) {
    int group = cache->num_q_heads / cache->num_kv_heads;
    int width = cache->num_q_heads * cache->head_dim;
    int tile_tokens = greatest(1, TILE_ROWS / group);
    Call call = {out, queries, query_stride, scale, window};
#pragma omp parallel for collapse(2) schedule(dynamic) if (in_parallel)
    for (int begin = 0; begin < cache->num_tokens; begin += tile_tokens)
        for (int kv = 0; kv < cache->num_kv_heads; kv++) {
            int limit = least(cache->num_tokens, begin + tile_tokens), count;
            for (int token = begin; token < limit; token += count) {
                count = run_length(cache, token, limit);
                if (cache->positions[token] >= 0) attend_run(cache, &call, token, count, kv);
                else if (kv == 0) memset(out + (int64_t)token * width, 0, width * sizeof(scalar));
            }
        }
}

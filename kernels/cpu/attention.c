// Causal attention over the paged KV cache; see KvLayout for the layout.
//
// A tile is up to TILE_ROWS query rows that look at the same keys: the heads of one KV head, for as
// many consecutive tokens as fit. Keys come in spans of up to SPAN, which begin where SPAN divides
// the position, in blocks of WIDTH; a block is loaded once for ROWS rows at a time.
// Every row does the same arithmetic in the same order whatever shares its tile, so that a token's
// result does not depend on how its prompt was cut, or on the batch.
#include "kv_cache.h"
#include "lanes.h"

enum { TILE_ROWS = 16, ROWS = 4, SPAN = 64, BLOCKS = SPAN / WIDTH };

typedef struct {
    int first_position, num_tokens, num_heads, window;  // row = token * num_heads + head
    int dim, block_tokens;
    int position[TILE_ROWS];
    float max[TILE_ROWS], sum[TILE_ROWS];  // online: `sum` and `mixed` are relative to `max`
    float queries[TILE_ROWS * MAX_HEAD_DIM], mixed[TILE_ROWS * MAX_HEAD_DIM];
} Tile;

typedef struct {
    int begin, num_blocks;  // position of the first key; what the tile's last token sees of it
    const scalar *keys[BLOCKS], *values[BLOCKS];
} Span;

// Of a group of rows: scores, then weights, of the keys of a span.
typedef struct {
    float weights[ROWS][BLOCKS][WIDTH];
    float rescale[ROWS];  // what the sums so far are multiplied with
} Group;

static int least(int a, int b) { return a < b ? a : b; }
static int greatest(int a, int b) { return a > b ? a : b; }

// The lanes of a block that a row may see: [first, end), none if they are not in order.
INLINE int first_lane(const Tile *tile, int row, int begin) {
    return tile->window ? greatest(0, tile->position[row] - tile->window + 1 - begin) : 0;
}

INLINE int end_lane(const Tile *tile, int row, int begin) {
    return least(WIDTH, tile->position[row] + 1 - begin);
}

// The blocks of a span that any of some rows, which are in order, sees.
INLINE int first_block(const Tile *tile, int row, int begin) {
    return first_lane(tile, row, begin) / WIDTH;
}

INLINE int end_block(const Tile *tile, int last_row, const Span *span) {
    return least(span->num_blocks, (tile->position[last_row] - span->begin) / WIDTH + 1);
}

// weights[row][lane] = query . key; two sums a row hide the latency of one.
INLINE void score(Group *group, int block, const float *queries, const scalar *k, int dim,
                  int block_tokens, int rows) {
    wide sums[ROWS][2] = {0}, key;
    for (int d = 0; d < dim; d += 2)
        for (int part = 0; part < 2; part++) {
            key = load_wide(k + (int64_t)(d + part) * block_tokens);
            for (int row = 0; row < rows; row++)
                sums[row][part] += queries[row * dim + d + part] * key;
        }
    for (int row = 0; row < rows; row++) {
        wide total = sums[row][0] + sums[row][1];
        memcpy(group->weights[row][block], &total, sizeof total);
    }
}

// Scores of the blocks [first, end) become weights. A lane that a row does not see weighs nothing.
DISPATCHED static void soften(Tile *tile, int first_row, int rows, int begin, Group *group,
                              int first, int end) {
    for (int i = 0; i < rows; i++) {
        int row = first_row + i;
        wide *weights = (wide *)group->weights[i], highest = all_wide(tile->max[row]), sum = {0};
        ints seen[BLOCKS];
        for (int block = first; block < end; block++) {
            int from = least(WIDTH, first_lane(tile, row, begin + block * WIDTH));
            int to = greatest(0, end_lane(tile, row, begin + block * WIDTH));
            seen[block] = lanes_between(from, to);
            weights[block] = pick(seen[block], weights[block], all_wide(-1e30f));
            highest = larger(highest, weights[block]);
        }
        float max = max_wide(highest);
        for (int block = first; block < end; block++) {
            weights[block] = (wide)(seen[block] & (ints)exp_wide(weights[block] - max));
            sum += weights[block];
        }
        group->rescale[i] = fast_exp(tile->max[row] - max);
        tile->sum[row] = tile->sum[row] * group->rescale[i] + sum_wide(sum);
        tile->max[row] = max;
    }
}

// mixed *= rescale for `columns` vectors of some rows, then += weights . values of the blocks.
INLINE void mix(float *mixed, const Group *group, const Span *span, const int *lanes, int first,
                int end, int dim, int d, int rows, int columns) {
    wide totals[ROWS][4], value;
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++)
            totals[row][column] =
                group->rescale[row] * *(wide *)(mixed + row * dim + d + column * WIDTH);
    for (int block = first; block < end; block++)
        for (int lane = lanes[2 * block]; lane < lanes[2 * block + 1]; lane++)
            for (int column = 0; column < columns; column++) {
                value = load_wide(span->values[block] + lane * dim + d + column * WIDTH);
                for (int row = 0; row < rows; row++)
                    totals[row][column] += group->weights[row][block][lane] * value;
            }
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++)
            *(wide *)(mixed + row * dim + d + column * WIDTH) = totals[row][column];
}

// The same for the elements [d, dim) of one row: what is left beside whole vectors.
DISPATCHED static void mix_rest(float *mixed, float rescale, const float (*weights)[WIDTH],
                                const Span *span, const int *lanes, int first, int end, int dim,
                                int d) {
    for (int i = d; i < dim; i++) mixed[i] *= rescale;
    for (int block = first; block < end; block++)
        for (int lane = lanes[2 * block]; lane < lanes[2 * block + 1]; lane++)
            for (int i = d; i < dim; i++)
                mixed[i] += weights[block][lane] * load(span->values[block][lane * dim + i]);
}

// Adds a span of keys to the running softmax of some rows of a tile.
INLINE void attend(Tile *tile, int row, const Span *span, int rows) {
    Group group;
    int dim = tile->dim, d = 0, columns = rows == 1 ? 4 : 2, lanes[2 * BLOCKS];
    int first = first_block(tile, row, span->begin), end = end_block(tile, row + rows - 1, span);
    float *mixed = tile->mixed + row * dim;
    for (int block = first; block < end; block++) {
        int begin = span->begin + block * WIDTH;
        score(&group, block, tile->queries + row * dim, span->keys[block], dim,
              tile->block_tokens, rows);
        lanes[2 * block] = first_lane(tile, row, begin);
        lanes[2 * block + 1] = end_lane(tile, row + rows - 1, begin);
    }
    soften(tile, row, rows, span->begin, &group, first, end);
    for (; d + columns * WIDTH <= dim; d += columns * WIDTH)
        mix(mixed, &group, span, lanes, first, end, dim, d, rows, columns);
    for (; d + WIDTH <= dim; d += WIDTH)
        mix(mixed, &group, span, lanes, first, end, dim, d, rows, 1);
    for (int i = 0; i < rows && d < dim; i++)
        mix_rest(mixed + i * dim, group.rescale[i], group.weights[i], span, lanes, first, end, dim,
                 d);
}

DISPATCHED static void attend_rows(Tile *tile, int row, const Span *span) {
    attend(tile, row, span, ROWS);
}

DISPATCHED static void attend_row(Tile *tile, int row, const Span *span) {
    attend(tile, row, span, 1);
}

// The tokens of a tile that see a span are neighbours: later ones see it, until the window ends.
static void attend_span(Tile *tile, const Span *span) {
    int token = greatest(0, span->begin - tile->first_position), end = tile->num_tokens;
    if (tile->window)
        end = least(end, span->begin + SPAN - 1 + tile->window - tile->first_position);
    int row = token * tile->num_heads, end_row = end * tile->num_heads;
    for (; row + ROWS <= end_row; row += ROWS) attend_rows(tile, row, span);
    for (; row < end_row; row++) attend_row(tile, row, span);
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
    for (int begin = first / SPAN * SPAN; begin < end; begin += SPAN) {
        Span span = {.begin = begin};
        for (int position = begin; position < least(end, begin + SPAN); position += WIDTH) {
            int lane = position % cache->block_tokens, block = span.num_blocks++;
            span.keys[block] = kv_head(cache, sequence, position, KEYS, kv) + lane;
            span.values[block] =
                kv_head(cache, sequence, position, VALUES, kv) + lane * cache->head_dim;
        }
        attend_span(tile, &span);
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

// y[row] += (x[row] A^T) B for rows of many adapters of any rank; see LoraPlan in kernels/layouts.py.
#include "lora.h"
#include "lora_expand.h"
#include "lora_shrink.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

// One of the threads, of which each has one run of all units of a phase: so it reads long runs.
typedef struct {
    const Work *work;
    int thread, num_threads;
} Worker;

static Range groups_of(const Worker *worker, int part) {
    const Part *parts = worker->work->plan->parts;
    return share(&parts[part].shrink, &parts[worker->work->num_parts - 1].shrink, worker->thread,
                 worker->num_threads);
}

static Range columns_of(const Worker *worker, int part) {
    const Part *parts = worker->work->plan->parts;
    Range strips = share(&parts[part].expand, &parts[worker->work->num_parts - 1].expand,
                         worker->thread, worker->num_threads);
    int64_t end = strips.end * STRIP, width = parts[part].columns.out_features;
    return (Range){strips.begin * STRIP, end < width ? end : width};
}

// What a worker reads first of the parts from `part` on: nothing where it has none of them.
static Rows first_rows_of_b(const Worker *worker, int part) {
    const Work *work = worker->work;
    for (; part < work->num_parts; part++) {
        Range columns = columns_of(worker, part);
        if (columns.begin < columns.end)
            return first_of_b(work, &work->plan->parts[part], columns);
    }
    return (Rows){0};
}

static Rows first_rows(const Worker *worker, int part) {
    const Work *work = worker->work;
    for (; part < work->num_parts; part++) {
        Range groups = groups_of(worker, part);
        if (groups.begin < groups.end)
            return rows_of_a(work, &work->plan->parts[part], groups.begin * DOT_ROWS, DOT_ROWS);
    }
    return first_rows_of_b(worker, 0);
}

static void shrink(const Worker *worker) {
    const Work *work = worker->work;
    for (int part = 0; part < work->num_parts; part++) {
        Range groups = groups_of(worker, part);
        if (groups.begin < groups.end)
            shrink_part(work, &work->plan->parts[part], groups, first_rows(worker, part + 1));
    }
}

static void expand(const Worker *worker) {
    const Work *work = worker->work;
    for (int part = 0; part < work->num_parts; part++) {
        Range columns = columns_of(worker, part);
        if (columns.begin < columns.end)
            expand_part(work, &work->plan->parts[part], columns,
                        first_rows_of_b(worker, part + 1));
    }
}

static int is_worth_waking(const Work *work) {
    const Part *last = &work->plan->parts[work->num_parts - 1];
    return total_cost(&last->shrink) * DOT_ROWS * work->in_features +
               total_cost(&last->expand) * STRIP >= PARALLEL_COST;
}

// One parallel region per site: the barrier between the two phases is the only synchronisation.
void add_adapters(Work *work) {
    find_parts(work, DOT_ROWS, STRIP);
    if (work->num_parts == 0) return;
#pragma omp parallel if (is_worth_waking(work))
    {
        Worker worker = {work, omp_get_thread_num(), omp_get_num_threads()};
        shrink(&worker);
#pragma omp barrier
        expand(&worker);
    }
}

EXPORT void lora_apply(const Plan *plan, const Slice *slices, int32_t num_slices,
                       int32_t in_features, int32_t layer, scalar *y, int64_t y_stride,
                       const scalar *x, int64_t x_stride) {
    Work work = {plan, slices, num_slices, in_features, layer, 0, y, x, y_stride, x_stride};
    add_adapters(&work);
}

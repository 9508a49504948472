/*
 * Flat ranges of a matrix slice as rectangles of the whole matrix, and back. Pure arithmetic.
 *
 * A rank holds a rectangle of a global matrix, stored row by row; a ZeRO shard of it is a range of
 * that storage. Such a range is at most three rectangles: the rest of a row, whole rows, the start
 * of a row. One-dimensional tensors are matrices of one column.
 */
#ifndef TRM_CHECKPOINT_RECT_H
#define TRM_CHECKPOINT_RECT_H

#include <stdbool.h>
#include <stdint.h>

/* Rows [row, row + rows) x columns [column, column + columns) of a global matrix, in elements. */
struct trm_rect {
    int64_t row, column, rows, columns;
};

#define TRM_RECT_SPLIT_MAX 3

/* Cuts storage elements [begin, end) of `whole` into rectangles that, stored one after the other
 * row by row, are exactly those elements. Returns how many (0 for an empty range). */
int trm_rect_split(struct trm_rect whole, int64_t begin, int64_t end,
                   struct trm_rect out[TRM_RECT_SPLIT_MAX]);

/* Elements of a rectangle. */
int64_t trm_rect_elements(struct trm_rect rect);

/* The common part; false when there is none. */
bool trm_rect_intersect(struct trm_rect a, struct trm_rect b, struct trm_rect *common);

#define TRM_RECT_SUBTRACT_MAX 4

/* What is left of `from` without `part`: above, below, left and right of it. Requires `part` to lie
 * inside `from`. Returns how many. */
int trm_rect_subtract(struct trm_rect from, struct trm_rect part,
                      struct trm_rect out[TRM_RECT_SUBTRACT_MAX]);

/* True when `inner` lies inside `outer`; never overflows, whatever the numbers. */
bool trm_rect_contains(struct trm_rect outer, struct trm_rect inner);

/* Whether rectangles cover a matrix exactly once, without looking at pairs: the number of elements,
 * the sum of their flat indices and the sum of the squares of those, modulo 2^64. Sums of parts add
 * up, over ranks too. A gap and an overlap that leave all three as they were do not come about by
 * mistake; restore plans check exactly. */
struct trm_cover {
    uint64_t count, sum, squares;
};

/* Adds `rect` of a matrix with `matrix_columns` columns. Requires sides below 2^40. */
void trm_cover_add(struct trm_cover *cover, int64_t matrix_columns, struct trm_rect rect);

bool trm_cover_equal(struct trm_cover a, struct trm_cover b);

#endif

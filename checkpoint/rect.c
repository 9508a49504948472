#include "checkpoint/rect.h"

int64_t trm_rect_elements(struct trm_rect rect)
{
    return rect.rows * rect.columns;
}

int trm_rect_split(struct trm_rect whole, int64_t begin, int64_t end,
                   struct trm_rect out[TRM_RECT_SPLIT_MAX])
{
    if (begin >= end)
        return 0;
    int64_t columns = whole.columns;
    int64_t row = begin / columns, column = begin % columns;
    int64_t end_row = end / columns, end_column = end % columns;
    if (row == (end - 1) / columns) {
        out[0] = (struct trm_rect){whole.row + row, whole.column + column, 1, end - begin};
        return 1;
    }
    int count = 0;
    if (column > 0) {
        out[count++] =
            (struct trm_rect){whole.row + row, whole.column + column, 1, columns - column};
        row++;
    }
    if (row < end_row)
        out[count++] = (struct trm_rect){whole.row + row, whole.column, end_row - row, columns};
    if (end_column > 0)
        out[count++] = (struct trm_rect){whole.row + end_row, whole.column, 1, end_column};
    return count;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

bool trm_rect_intersect(struct trm_rect a, struct trm_rect b, struct trm_rect *common)
{
    int64_t row = larger(a.row, b.row);
    int64_t row_end = smaller(a.row + a.rows, b.row + b.rows);
    int64_t column = larger(a.column, b.column);
    int64_t column_end = smaller(a.column + a.columns, b.column + b.columns);
    if (row >= row_end || column >= column_end)
        return false;
    *common = (struct trm_rect){row, column, row_end - row, column_end - column};
    return true;
}

int trm_rect_subtract(struct trm_rect from, struct trm_rect part,
                      struct trm_rect out[TRM_RECT_SUBTRACT_MAX])
{
    int count = 0;
    int64_t from_row_end = from.row + from.rows, part_row_end = part.row + part.rows;
    int64_t from_column_end = from.column + from.columns;
    int64_t part_column_end = part.column + part.columns;
    if (part.row > from.row)
        out[count++] = (struct trm_rect){from.row, from.column, part.row - from.row, from.columns};
    if (part.column > from.column)
        out[count++] =
            (struct trm_rect){part.row, from.column, part.rows, part.column - from.column};
    if (part_column_end < from_column_end)
        out[count++] = (struct trm_rect){part.row, part_column_end, part.rows,
                                         from_column_end - part_column_end};
    if (part_row_end < from_row_end)
        out[count++] =
            (struct trm_rect){part_row_end, from.column, from_row_end - part_row_end, from.columns};
    return count;
}

static bool inside(int64_t outer_begin, int64_t outer_count, int64_t begin, int64_t count)
{
    return count >= 0 && count <= outer_count && begin >= outer_begin &&
           begin - outer_begin <= outer_count - count;
}

bool trm_rect_contains(struct trm_rect outer, struct trm_rect inner)
{
    return inside(outer.row, outer.rows, inner.row, inner.rows) &&
           inside(outer.column, outer.columns, inner.column, inner.columns);
}

/* 0 + 1 + ... + (n - 1), modulo 2^64. */
static uint64_t sum_below(uint64_t n)
{
    unsigned __int128 wide = n;
    return n == 0 ? 0 : (uint64_t)(wide * (wide - 1) / 2);
}

/* 0 + 1 + 4 + ... + (n - 1)^2, modulo 2^64; exact in 128 bits for n below 2^41. */
static uint64_t squares_below(uint64_t n)
{
    unsigned __int128 wide = n;
    return n == 0 ? 0 : (uint64_t)((wide - 1) * wide * (2 * wide - 1) / 6);
}

void trm_cover_add(struct trm_cover *cover, int64_t matrix_columns, struct trm_rect rect)
{
    /* An element's flat index is row * width + column. */
    uint64_t width = (uint64_t)matrix_columns;
    uint64_t row = (uint64_t)rect.row, row_end = (uint64_t)(rect.row + rect.rows);
    uint64_t column = (uint64_t)rect.column, column_end = (uint64_t)(rect.column + rect.columns);
    uint64_t rows = row_end - row, columns = column_end - column;
    uint64_t row_sum = sum_below(row_end) - sum_below(row);
    uint64_t column_sum = sum_below(column_end) - sum_below(column);
    uint64_t row_squares = squares_below(row_end) - squares_below(row);
    uint64_t column_squares = squares_below(column_end) - squares_below(column);
    cover->count += rows * columns;
    cover->sum += width * row_sum * columns + rows * column_sum;
    cover->squares += width * width * row_squares * columns + 2 * width * row_sum * column_sum +
                      rows * column_squares;
}

bool trm_cover_equal(struct trm_cover a, struct trm_cover b)
{
    return a.count == b.count && a.sum == b.sum && a.squares == b.squares;
}

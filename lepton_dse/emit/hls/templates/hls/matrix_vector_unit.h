// NF * PE sums of SF * SIMD products each, plus a bias: PE rows by SIMD columns a step. The operands of a period are held while
// the rows go by.
#ifndef LEPTON_MATRIX_VECTOR_UNIT_H
#define LEPTON_MATRIX_VECTOR_UNIT_H

#include "products.h"

namespace lepton {

template <class S>
void matrix_vector_unit(hls::stream<ap_uint<S::SIMD * S::A_WIDTH> >& in,
                        hls::stream<ap_uint<S::PE * S::ACC_WIDTH> >& out,
                        const typename Constant<S::W_WIDTH>::type (&weights)[S::NF * S::SF][S::PE * S::SIMD],
                        const typename Constant<S::ACC_WIDTH>::type (&bias)[S::NF][S::PE]) {
    ap_uint<S::SIMD * S::A_WIDTH> held[S::SF];
    ap_int<S::ACC_WIDTH> sums[S::PE];
#pragma HLS ARRAY_PARTITION variable=sums complete

    for (int period = 0; period < S::PERIODS; ++period) {
        for (int row = 0; row < S::NF; ++row) {
            for (int step = 0; step < S::SF; ++step) {
#pragma HLS PIPELINE II=1 style=flp
                ap_uint<S::SIMD * S::A_WIDTH> word;
                if (row == 0) {
                    word = in.read();
                    held[step] = word;
                } else {
                    word = held[step];
                }
                ap_uint<S::PE * S::ACC_WIDTH> result;
                for (int first = 0; first < S::PE; first += S::Product::ROWS) {
#pragma HLS UNROLL
                    // Sums are exact modulo the width of the accumulator.
                    ap_int<S::ACC_WIDTH> totals[S::Product::ROWS];
                    for (int next = 0; next < S::Product::ROWS; ++next) {
#pragma HLS UNROLL
                        totals[next] = 0;
                    }
                    for (int simd = 0; simd < S::SIMD; ++simd) {
#pragma HLS UNROLL
                        ap_int<S::W_WIDTH> row_weights[S::Product::ROWS];
                        ap_int<S::A_WIDTH + S::W_WIDTH> products[S::Product::ROWS];
                        for (int next = 0; next < S::Product::ROWS; ++next) {
#pragma HLS UNROLL
                            row_weights[next] = weights[row * S::SF + step][(first + next) * S::SIMD + simd];
                        }
                        S::Product::multiply_rows(ap_int<S::A_WIDTH>(element<S::A_WIDTH>(word, simd)), row_weights, products);
                        for (int next = 0; next < S::Product::ROWS; ++next) {
#pragma HLS UNROLL
                            totals[next] += products[next];
                        }
                    }
                    for (int next = 0; next < S::Product::ROWS; ++next) {
#pragma HLS UNROLL
                        const int pe = first + next;
                        const ap_int<S::ACC_WIDTH> before = (step == 0) ? ap_int<S::ACC_WIDTH>(bias[row][pe]) : sums[pe];
                        const ap_int<S::ACC_WIDTH> sum = before + totals[next];
                        sums[pe] = sum;
                        put<S::ACC_WIDTH>(result, pe, sum);
                    }
                }
                if (step == S::SF - 1) out.write(result);
            }
        }
    }
}

}  // namespace lepton

#endif

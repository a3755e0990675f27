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
                for (int pe = 0; pe < S::PE; ++pe) {
#pragma HLS UNROLL
                    // Sums are exact modulo the width of the accumulator.
                    ap_int<S::ACC_WIDTH> products = 0;
                    for (int simd = 0; simd < S::SIMD; ++simd) {
#pragma HLS UNROLL
                        const ap_int<S::W_WIDTH> weight = weights[row * S::SF + step][pe * S::SIMD + simd];
                        products += S::Product::multiply(element<S::A_WIDTH>(word, simd), weight);
                    }
                    const ap_int<S::ACC_WIDTH> before = (step == 0) ? ap_int<S::ACC_WIDTH>(bias[row][pe]) : sums[pe];
                    const ap_int<S::ACC_WIDTH> sum = before + products;
                    sums[pe] = sum;
                    put<S::ACC_WIDTH>(result, pe, sum);
                }
                if (step == S::SF - 1) out.write(result);
            }
        }
    }
}

}  // namespace lepton

#endif

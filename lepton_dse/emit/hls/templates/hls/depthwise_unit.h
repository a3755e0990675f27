// Each channel's window times weights of its own, plus a bias: LANES channels a step, FOLDS steps a tap, TAPS taps.
#ifndef LEPTON_DEPTHWISE_UNIT_H
#define LEPTON_DEPTHWISE_UNIT_H

#include "products.h"

namespace lepton {

template <class S>
void depthwise_unit(hls::stream<ap_uint<S::LANES * S::A_WIDTH> >& in,
                    hls::stream<ap_uint<S::LANES * S::ACC_WIDTH> >& out,
                    const typename Constant<S::W_WIDTH>::type (&weights)[S::TAPS * S::FOLDS][S::LANES],
                    const typename Constant<S::ACC_WIDTH>::type (&bias)[S::FOLDS][S::LANES]) {
    ap_int<S::ACC_WIDTH> sums[S::FOLDS][S::LANES];
#pragma HLS ARRAY_PARTITION variable=sums complete dim=2

    for (int period = 0; period < S::PERIODS; ++period) {
        for (int tap = 0; tap < S::TAPS; ++tap) {
            for (int fold = 0; fold < S::FOLDS; ++fold) {
#pragma HLS PIPELINE II=1 style=flp
                const ap_uint<S::LANES * S::A_WIDTH> word = in.read();
                ap_uint<S::LANES * S::ACC_WIDTH> result;
                for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
                    // Sums are exact modulo the width of the accumulator.
                    const ap_int<S::W_WIDTH> weight = weights[tap * S::FOLDS + fold][lane];
                    const ap_int<S::ACC_WIDTH> product = S::Product::multiply(element<S::A_WIDTH>(word, lane), weight);
                    const ap_int<S::ACC_WIDTH> before = (tap == 0) ? ap_int<S::ACC_WIDTH>(bias[fold][lane]) : sums[fold][lane];
                    const ap_int<S::ACC_WIDTH> sum = before + product;
                    sums[fold][lane] = sum;
                    put<S::ACC_WIDTH>(result, lane, sum);
                }
                if (tap == S::TAPS - 1) out.write(result);
            }
        }
    }
}

}  // namespace lepton

#endif

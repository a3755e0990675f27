// y = clamp((((a - ZERO_A) * MULTIPLIER_A + (b - ZERO_B) * MULTIPLIER_B + 2^(SHIFT-1)) >> SHIFT) + ZERO, LOW, HIGH) in each lane
// of two streams that are taken together.
#ifndef LEPTON_ADD_REQUANTIZE_H
#define LEPTON_ADD_REQUANTIZE_H

#include "rounding.h"

namespace lepton {

template <class S>
void add_requantize(hls::stream<ap_uint<S::LANES * S::A_WIDTH> >& a,
                    hls::stream<ap_uint<S::LANES * S::B_WIDTH> >& b,
                    hls::stream<ap_uint<S::LANES * S::OUT_WIDTH> >& out) {
    // A zero point has 17 bits, and a difference one more than the wider of both.
    const int A = Larger<S::A_WIDTH, 17>::value + 1;
    const int B = Larger<S::B_WIDTH, 17>::value + 1;
    const int TOTAL = Larger<A, B>::value + S::M_WIDTH + 2;

    for (int period = 0; period < S::PERIODS; ++period) {
#pragma HLS PIPELINE II=1 style=flp
        const ap_uint<S::LANES * S::A_WIDTH> a_word = a.read();
        const ap_uint<S::LANES * S::B_WIDTH> b_word = b.read();
        ap_uint<S::LANES * S::OUT_WIDTH> result;
        for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
            const ap_int<A> a_value = element<S::A_WIDTH>(a_word, lane) - ap_int<17>(S::ZERO_A);
            const ap_int<B> b_value = element<S::B_WIDTH>(b_word, lane) - ap_int<17>(S::ZERO_B);
            const ap_int<TOTAL> a_product = a_value * ap_int<S::M_WIDTH + 1>(S::MULTIPLIER_A);
            const ap_int<TOTAL> b_product = b_value * ap_int<S::M_WIDTH + 1>(S::MULTIPLIER_B);
            const ap_int<TOTAL> total = a_product + b_product;
            put<S::OUT_WIDTH>(result, lane, rounded<S>(total));
        }
        out.write(result);
    }
}

}  // namespace lepton

#endif

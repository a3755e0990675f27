// y = clamp(((acc * M + 2^(SHIFT-1)) >> SHIFT) + ZERO, LOW, HIGH) in each of PE lanes; the multipliers of NF words follow one
// another, and again.
#ifndef LEPTON_REQUANTIZE_H
#define LEPTON_REQUANTIZE_H

#include "rounding.h"

namespace lepton {

template <class S>
void requantize(hls::stream<ap_uint<S::PE * S::ACC_WIDTH> >& in,
                hls::stream<ap_uint<S::PE * S::OUT_WIDTH> >& out,
                const typename Constant<S::M_WIDTH + 1>::type (&multipliers)[S::NF][S::PE]) {
    int fold = 0;

    for (int period = 0; period < S::PERIODS; ++period) {
#pragma HLS PIPELINE II=1 style=flp
        const ap_uint<S::PE * S::ACC_WIDTH> word = in.read();
        ap_uint<S::PE * S::OUT_WIDTH> result;
        for (int pe = 0; pe < S::PE; ++pe) {
#pragma HLS UNROLL
            const ap_int<S::M_WIDTH + 1> multiplier = multipliers[fold][pe];
            const ap_int<S::ACC_WIDTH + S::M_WIDTH + 1> product = element<S::ACC_WIDTH>(word, pe) * multiplier;
            put<S::OUT_WIDTH>(result, pe, rounded<S>(product));
        }
        out.write(result);
        fold = (fold == S::NF - 1) ? 0 : fold + 1;
    }
}

}  // namespace lepton

#endif

// Replaces each element by an entry of a table; the address is the element's bits as an unsigned number.
#ifndef LEPTON_LOOKUP_H
#define LEPTON_LOOKUP_H

#include "words.h"

namespace lepton {

template <class S>
void lookup(hls::stream<ap_uint<S::LANES * S::IN_WIDTH> >& in,
            hls::stream<ap_uint<S::LANES * S::OUT_WIDTH> >& out,
            const typename Constant<S::OUT_WIDTH>::type (&table)[1 << S::IN_WIDTH][1]) {
    for (int period = 0; period < S::PERIODS; ++period) {
#pragma HLS PIPELINE II=1 style=flp
        const ap_uint<S::LANES * S::IN_WIDTH> word = in.read();
        ap_uint<S::LANES * S::OUT_WIDTH> result;
        for (int lane = 0; lane < S::LANES; ++lane) {
#pragma HLS UNROLL
            const ap_uint<S::IN_WIDTH> address = element<S::IN_WIDTH>(word, lane);
            put<S::OUT_WIDTH>(result, lane, ap_int<S::OUT_WIDTH>(table[address.to_int()][0]));
        }
        out.write(result);
    }
}

}  // namespace lepton

#endif

// Gives each word of a stream to several consumers.
#ifndef LEPTON_STREAM_FORK_H
#define LEPTON_STREAM_FORK_H

#include "words.h"

namespace lepton {

template <class Word>
void write_all(const Word& word, hls::stream<Word>& out) {
#pragma HLS INLINE
    out.write(word);
}

template <class Word, class... Others>
void write_all(const Word& word, hls::stream<Word>& out, Others&... others) {
#pragma HLS INLINE
    out.write(word);
    write_all(word, others...);
}

template <class S, class... Copies>
void stream_fork(hls::stream<ap_uint<S::WIDTH> >& in, Copies&... copies) {
    for (int period = 0; period < S::PERIODS; ++period) {
#pragma HLS PIPELINE II=1 style=flp
        write_all(in.read(), copies...);
    }
}

}  // namespace lepton

#endif

// Matrix products and convolutions as matrix products: D (rows, columns) = A (rows, depth) B (columns, depth)^T, tile by tile.
//
// A block computes one tile of D. Step by step it brings a strip of both operands into shared memory, each row of a strip
// `Tile::pitch` bytes of the summed axis, and multiplies it there. Chunks of 16 bytes are exchanged inside each row (the
// swizzle), so that the eight rows which a warp reads at once lie in different banks:
//
//     chunk q of row r is stored at chunk q xor (r / (8 / c) mod c)      where a row has c chunks, c < 8
//     chunk q of row r is stored at chunk q xor (r mod 8)                where it has eight
//
// The operands say where an element lies in global memory (`Matrix`, `Columns`, `Windows`, `Packed4`, `Blocks`), the engine how a strip
// is multiplied (`TensorCores`, `SparseTensorCores`, `CudaCores`), the epilogue what becomes of a sum.
#pragma once

#include "intrinsics.cuh"

namespace lepton {

// Rows of one operand in shared memory, `Pitch` bytes of the summed axis each.
template <int Pitch, bool Swizzled>
struct Strip {
  static constexpr int pitch = Pitch, chunks = Pitch / 16;

  // Where byte `byte` of row `row` lies.
  LEPTON_DEVICE static uint32_t offset(int row, int byte) {
    constexpr int rows_in_line = chunks < 8 ? 8 / chunks : 1, mask = (chunks < 8 ? chunks : 8) - 1;
    const int chunk = byte / 16 ^ (Swizzled ? row / rows_in_line & mask : 0);
    return static_cast<uint32_t>(row * Pitch + chunk * 16 + byte % 16);
  }
};

// Rows, columns: extent of a block's tile. Warps: how they divide it. Pitch: bytes of the summed axis a step, and what of it is
// stored of the rows' operand (half of it where zeros are left out). Stages: strips of both operands that shared memory holds.
// Async: whether strips are copied without passing through registers.
template <int Rows, int Columns, int Pitch, int WarpRows, int WarpColumns, int Stages, bool Swizzled, bool Async,
          int LeftPitch = Pitch>
struct Tile {
  using Left = Strip<LeftPitch, Swizzled>;
  using Right = Strip<Pitch, Swizzled>;
  static constexpr int rows = Rows, columns = Columns, pitch = Pitch, warp_rows = WarpRows, warp_columns = WarpColumns;
  static constexpr int stages = Stages, threads = 32 * WarpRows * WarpColumns;
  static constexpr bool async = Async;
  static constexpr int left_bytes = Rows * LeftPitch, stage_bytes = left_bytes + Columns * Pitch;
  static constexpr int shared_bytes = Stages * stage_bytes;
  static_assert(!Async || Stages >= 2, "a copy that is under way needs a strip of its own");
};

// --- operands -------------------------------------------------------------------------------------------------------
// `place` finds what stays the same along the summed axis; `fetch` brings the 16 bytes from element k on, elements outside
// replaced by `fill`; `source` is where they lie, for operands whose every chunk lies in one piece.

template <int Bytes>
struct PieceOf;
template <>
struct PieceOf<1> { using type = uint8_t; };
template <>
struct PieceOf<2> { using type = uint16_t; };
template <>
struct PieceOf<4> { using type = uint32_t; };
template <>
struct PieceOf<8> { using type = Bytes8; };
template <>
struct PieceOf<16> { using type = Bytes16; };

template <class Piece>
LEPTON_DEVICE Piece filled(uint32_t pattern) {
  if constexpr (sizeof(Piece) > 4) {
    Piece piece;
    LEPTON_UNROLL
    for (unsigned word = 0; word < sizeof(Piece) / 4; ++word) piece.word[word] = pattern;
    return piece;
  } else {
    return static_cast<Piece>(pattern);
  }
}

// A chunk in pieces of `PieceBytes`, each of which is wholly inside or wholly outside.
template <int PieceBytes, class Operand, class Place>
LEPTON_DEVICE Bytes16 fetch_pieces(const Operand& operand, const Place& place, int k, uint32_t pattern) {
  using Piece = typename PieceOf<PieceBytes>::type;
  constexpr int elements = PieceBytes / sizeof(typename Operand::Element);
  Bytes16 chunk;
  if constexpr (PieceBytes == 16) {
    bool active;
    const auto* pointer = operand.source(place, k, active);
    chunk = load(reinterpret_cast<const Piece*>(pointer), active, filled<Piece>(pattern));
  } else if constexpr (PieceBytes == 8) {
    LEPTON_UNROLL
    for (int piece = 0; piece < 2; ++piece) {
      bool active;
      const auto* pointer = operand.source(place, k + piece * elements, active);
      const Piece value = load(reinterpret_cast<const Piece*>(pointer), active, filled<Piece>(pattern));
      chunk.word[2 * piece] = value.word[0];
      chunk.word[2 * piece + 1] = value.word[1];
    }
  } else {
    LEPTON_UNROLL
    for (int word = 0; word < 4; ++word) {
      uint32_t joined = 0;
      LEPTON_UNROLL
      for (int piece = 0; piece < 4 / PieceBytes; ++piece) {
        bool active;
        const auto* pointer = operand.source(place, k + (word * 4 / PieceBytes + piece) * elements, active);
        const Piece value = load(reinterpret_cast<const Piece*>(pointer), active, filled<Piece>(pattern));
        joined |= static_cast<uint32_t>(value) << 8 * PieceBytes * piece;
      }
      chunk.word[word] = joined;
    }
  }
  return chunk;
}

// Rows one after another, `Stride` elements from one to the next, `Batch` from one product to the next.
template <class T, int Extent, int Depth, int Stride, int64_t Batch, int PieceBytes>
struct Matrix {
  using Element = T;
  static constexpr int depth = Depth;
  static constexpr bool whole = PieceBytes == 16;
  const T* start;

  struct Place {
    const T* row;
    bool inside;
  };
  LEPTON_DEVICE Place place(int row, int product) const {
    const bool inside = row < Extent;
    return {start + product * Batch + (inside ? static_cast<int64_t>(row) * Stride : 0), inside};
  }
  LEPTON_DEVICE const T* source(const Place& place, int k, bool& active) const {
    active = place.inside && k < Depth;
    return place.row + (active ? k : 0);
  }
  LEPTON_DEVICE Bytes16 fetch(const Place& place, int k) const { return fetch_pieces<PieceBytes>(*this, place, k, 0); }
};

// The same stored the other way round: neighbours along the rows lie side by side, `Stride` apart along the summed axis.
template <class T, int Extent, int Depth, int Stride, int64_t Batch>
struct Columns {
  using Element = T;
  static constexpr int depth = Depth;
  static constexpr bool whole = false;
  const T* start;

  struct Place {
    const T* row;
    bool inside;
  };
  LEPTON_DEVICE Place place(int row, int product) const {
    const bool inside = row < Extent;
    return {start + product * Batch + (inside ? row : 0), inside};
  }
  LEPTON_DEVICE const T* source(const Place& place, int k, bool& active) const {
    active = place.inside && k < Depth;
    return place.row + (active ? static_cast<int64_t>(k) * Stride : 0);
  }
  LEPTON_DEVICE Bytes16 fetch(const Place& place, int k) const { return fetch_pieces<sizeof(T)>(*this, place, k, 0); }
};

// Windows of an image (N, H, W, C), channels innermost; the summed axis is (kernel row, kernel column, channel of the group).
// `Shape` gives height, width, channels (of all groups), group_channels, out_height, out_width, images, kernel_height,
// kernel_width, stride_*, pad_* (before), dilation_*, and `padding`, the 32 bits that stand for what lies outside.
template <class T, class Shape, int PieceBytes>
struct Windows {
  using Element = T;
  static constexpr int depth = Shape::kernel_height * Shape::kernel_width * Shape::group_channels;
  static constexpr bool whole = PieceBytes == 16 && Shape::padding == 0;
  const T* start;

  struct Place {
    const T* corner;
    int row, column;
    bool inside;
  };
  LEPTON_DEVICE Place place(int row, int group) const {
    const bool inside = row < Shape::images * Shape::out_height * Shape::out_width;
    const int pixel = inside ? row % (Shape::out_height * Shape::out_width) : 0;
    const int image = inside ? row / (Shape::out_height * Shape::out_width) : 0;
    return {start + static_cast<int64_t>(image) * (Shape::height * Shape::width * Shape::channels) + group * Shape::group_channels,
            pixel / Shape::out_width * Shape::stride_height - Shape::pad_height,
            pixel % Shape::out_width * Shape::stride_width - Shape::pad_width, inside};
  }
  LEPTON_DEVICE const T* source(const Place& place, int k, bool& active) const {
    const int channel = k % Shape::group_channels, tap = k / Shape::group_channels;
    const int row = place.row + tap / Shape::kernel_width * Shape::dilation_height;
    const int column = place.column + tap % Shape::kernel_width * Shape::dilation_width;
    active = place.inside && k < depth && row >= 0 && row < Shape::height && column >= 0 && column < Shape::width;
    return place.corner + (active ? (row * Shape::width + column) * Shape::channels + channel : 0);
  }
  LEPTON_DEVICE Bytes16 fetch(const Place& place, int k) const {
    return fetch_pieces<PieceBytes>(*this, place, k, Shape::padding);
  }
};

// Integers of 4 bits, two a byte, the first in the low half; 16 of them become a chunk of 16 bytes. `Stride` in elements, a
// multiple of 16, so that every chunk is 8 aligned bytes.
template <int Extent, int Depth, int Stride, int64_t Batch>
struct Packed4 {
  using Element = int8_t;
  static constexpr int depth = Depth;
  static constexpr bool whole = false;
  const uint8_t* start;

  struct Place {
    const uint8_t* row;
    bool inside;
  };
  LEPTON_DEVICE Place place(int row, int product) const {
    const bool inside = row < Extent;
    return {start + (product * Batch + (inside ? static_cast<int64_t>(row) * Stride : 0)) / 2, inside};
  }
  LEPTON_DEVICE Bytes16 fetch(const Place& place, int k) const {
    const bool active = place.inside && k < Depth;
    const Bytes8 packed = load(reinterpret_cast<const Bytes8*>(place.row + (active ? k / 2 : 0)), active, Bytes8{{0, 0}});
    Bytes16 chunk;
    LEPTON_UNROLL
    for (int word = 0; word < 4; ++word) {
      const uint32_t nibbles = packed.word[word / 2] >> 16 * (word % 2);
      // The sign bit of each nibble becomes the upper half of its byte.
      const uint32_t spread = (nibbles & 0xFu) | (nibbles & 0xF0u) << 4 | (nibbles & 0xF00u) << 8 | (nibbles & 0xF000u) << 12;
      chunk.word[word] = spread | (spread >> 3 & 0x01010101u) * 0xF0u;
    }
    return chunk;
  }
};

// Blocks of weights that are not all zero, one after another: `Rows` rows of `Pitch` bytes each. The k that is asked for counts
// along the blocks, not along the summed axis.
template <class T, int Rows, int Pitch>
struct Blocks {
  using Element = T;
  static constexpr int depth = 1 << 30, elements = Pitch / static_cast<int>(sizeof(T));
  static constexpr bool whole = true;
  const T* start;

  struct Place {
    int row;
  };
  LEPTON_DEVICE Place place(int row, int) const { return {row % Rows}; }
  LEPTON_DEVICE const T* source(const Place& place, int k, bool& active) const {
    active = k < depth;
    return start + (active ? (static_cast<int64_t>(k / elements) * Rows + place.row) * elements + k % elements : 0);
  }
  LEPTON_DEVICE Bytes16 fetch(const Place& place, int k) const { return fetch_pieces<16>(*this, place, k, 0); }
};

// --- steps along the summed axis ------------------------------------------------------------------------------------
// How many a block takes; where along the axis the left operand's strip of a step lies, and where the right operand's.

template <int Count>
struct AllSteps {
  LEPTON_DEVICE int count() const { return Count; }
  LEPTON_DEVICE int left(int step) const { return step; }
  LEPTON_DEVICE int right(int step) const { return step; }
};

// Those of the blocks of weights that are stored: the list of tile i stands from `starts[i]` up to `starts[i + 1]`.
struct ListedSteps {
  const int32_t* list;
  int first, steps;

  LEPTON_DEVICE ListedSteps(const int32_t* starts, const int32_t* list, int tile) : list(list) {
    first = load(starts + tile, true, 0);
    steps = load(starts + tile + 1, true, 0) - first;
  }
  LEPTON_DEVICE int count() const { return steps; }
  LEPTON_DEVICE int left(int step) const { return load(list + first + step, true, 0); }
  LEPTON_DEVICE int right(int step) const { return first + step; }
};

// --- engines --------------------------------------------------------------------------------------------------------

// A warp multiplies 16 x 8 pieces on its tensor cores.
template <class Kind, class Tile>
struct TensorCores {
  using Sum = typename Kind::Sum;
  static constexpr int tall = Tile::rows / Tile::warp_rows / 16, wide = Tile::columns / Tile::warp_columns / 8;
  static_assert(tall * 16 * Tile::warp_rows == Tile::rows && wide * 8 * Tile::warp_columns == Tile::columns, "whole pieces");
  Sum sums[tall][wide][4] = {};
  int row, column, quad;

  LEPTON_DEVICE TensorCores() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    row = warp / Tile::warp_columns * (tall * 16) + lane / 4;
    column = warp % Tile::warp_columns * (wide * 8) + lane / 4;
    quad = lane % 4;
  }
  LEPTON_DEVICE void multiply_strip(const unsigned char* memory, uint32_t a, uint32_t b, int) {
    LEPTON_UNROLL
    for (int byte = 0; byte < Tile::pitch; byte += 32) {
      uint32_t left[tall][4], right[wide][2];
      LEPTON_UNROLL
      for (int i = 0; i < tall; ++i)
        LEPTON_UNROLL
        for (int word = 0; word < 4; ++word)
          left[i][word] = load_shared<uint32_t>(
              memory, a + Tile::Left::offset(row + 16 * i + 8 * (word % 2), byte + 16 * (word / 2) + 4 * quad));
      LEPTON_UNROLL
      for (int j = 0; j < wide; ++j)
        LEPTON_UNROLL
        for (int word = 0; word < 2; ++word)
          right[j][word] = load_shared<uint32_t>(memory, b + Tile::Right::offset(column + 8 * j, byte + 16 * word + 4 * quad));
      LEPTON_UNROLL
      for (int i = 0; i < tall; ++i)
        LEPTON_UNROLL
        for (int j = 0; j < wide; ++j) multiply(Kind(), sums[i][j], left[i], right[j]);
    }
  }
  template <class Use>
  LEPTON_DEVICE void each(const Use& use) const {
    LEPTON_UNROLL
    for (int i = 0; i < tall; ++i)
      LEPTON_UNROLL
      for (int j = 0; j < wide; ++j)
        LEPTON_UNROLL
        for (int index = 0; index < 4; ++index)
          use(row + 16 * i + 8 * (index / 2), column - (threadIdx.x % 32) / 4 + 8 * j + 2 * quad + index % 2, sums[i][j][index]);
  }
};

// The same where two of every four neighbours along the left operand's summed axis are zero and left out. `positions` says which
// are kept, as `multiply_sparse` wants it: 16 words for each 16 rows and 64 bytes of the axis, the words of a row's blocks
// side by side; `Blocks` and `Segments` count both in one product.
template <class Kind, class Tile, int Blocks, int Segments>
struct SparseTensorCores : TensorCores<Kind, Tile> {
  using Base = TensorCores<Kind, Tile>;
  using Base::column, Base::quad, Base::row, Base::sums, Base::tall, Base::wide;
  const uint32_t* positions;
  int block;

  LEPTON_DEVICE SparseTensorCores(const uint32_t* positions, int first_row, int product)
      : positions(positions + static_cast<int64_t>(product) * Blocks * Segments * 16),
        block((first_row + row - static_cast<int>(threadIdx.x) % 32 / 4) / 16) {}

  LEPTON_DEVICE void multiply_strip(const unsigned char* memory, uint32_t a, uint32_t b, int step) {
    LEPTON_UNROLL
    for (int byte = 0; byte < Tile::pitch; byte += 64) {
      const int segment = step * (Tile::pitch / 64) + byte / 64;
      uint32_t left[tall][4], right[wide][4], kept[tall];
      LEPTON_UNROLL
      for (int i = 0; i < tall; ++i) {
        const bool active = quad < 2 && block + i < Blocks && segment < Segments;
        const int place = ((block + i) * Segments + segment) * 16 + (column % 8) * 2 + quad;
        kept[i] = load(positions + (active ? place : 0), active, 0u);
        LEPTON_UNROLL
        for (int word = 0; word < 4; ++word)
          left[i][word] = load_shared<uint32_t>(
              memory, a + Tile::Left::offset(row + 16 * i + 8 * (word % 2), byte / 2 + 16 * (word / 2) + 4 * quad));
      }
      LEPTON_UNROLL
      for (int j = 0; j < wide; ++j)
        LEPTON_UNROLL
        for (int word = 0; word < 4; ++word)
          right[j][word] = load_shared<uint32_t>(memory, b + Tile::Right::offset(column + 8 * j, byte + 16 * word + 4 * quad));
      LEPTON_UNROLL
      for (int i = 0; i < tall; ++i)
        LEPTON_UNROLL
        for (int j = 0; j < wide; ++j) multiply_sparse(Kind(), sums[i][j], left[i], right[j], kept[i]);
    }
  }
};

// What one chunk of 16 bytes adds to a sum on the CUDA cores.
struct Float32 {
  using Sum = float;
  LEPTON_DEVICE static float add(const Bytes16& a, const Bytes16& b, float sum) {
    LEPTON_UNROLL
    for (int word = 0; word < 4; ++word) sum += float_of(a.word[word]) * float_of(b.word[word]);
    return sum;
  }
};
struct Dot4 {
  using Sum = int32_t;
  LEPTON_DEVICE static int32_t add(const Bytes16& a, const Bytes16& b, int32_t sum) {
    LEPTON_UNROLL
    for (int word = 0; word < 4; ++word) sum = dot4(a.word[word], b.word[word], sum);
    return sum;
  }
};

// A warp is 4 x 8 threads; a thread owns every fourth row and every eighth column of its warp's part.
template <class Kind, class Tile>
struct CudaCores {
  using Sum = typename Kind::Sum;
  static constexpr int tall = Tile::rows / Tile::warp_rows / 4, wide = Tile::columns / Tile::warp_columns / 8;
  static_assert(tall * 4 * Tile::warp_rows == Tile::rows && wide * 8 * Tile::warp_columns == Tile::columns, "whole pieces");
  Sum sums[tall][wide] = {};
  int row, column;

  LEPTON_DEVICE CudaCores() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    row = warp / Tile::warp_columns * (tall * 4) + lane / 8;
    column = warp % Tile::warp_columns * (wide * 8) + lane % 8;
  }
  LEPTON_DEVICE void multiply_strip(const unsigned char* memory, uint32_t a, uint32_t b, int) {
    LEPTON_UNROLL
    for (int byte = 0; byte < Tile::pitch; byte += 16) {
      Bytes16 left[tall], right[wide];
      LEPTON_UNROLL
      for (int i = 0; i < tall; ++i) left[i] = load_shared<Bytes16>(memory, a + Tile::Left::offset(row + 4 * i, byte));
      LEPTON_UNROLL
      for (int j = 0; j < wide; ++j) right[j] = load_shared<Bytes16>(memory, b + Tile::Right::offset(column + 8 * j, byte));
      LEPTON_UNROLL
      for (int i = 0; i < tall; ++i)
        LEPTON_UNROLL
        for (int j = 0; j < wide; ++j) sums[i][j] = Kind::add(left[i], right[j], sums[i][j]);
    }
  }
  template <class Use>
  LEPTON_DEVICE void each(const Use& use) const {
    LEPTON_UNROLL
    for (int i = 0; i < tall; ++i)
      LEPTON_UNROLL
      for (int j = 0; j < wide; ++j) use(row + 4 * i, column + 8 * j, sums[i][j]);
  }
};

// --- a block's work -------------------------------------------------------------------------------------------------

// The part of a strip that a thread brings: chunks threadIdx.x, threadIdx.x + threads, ... in row-major order.
template <class Operand, int Rows, class Strip, int Threads>
struct Carrier {
  static constexpr int total = Rows * Strip::chunks, count = (total + Threads - 1) / Threads;
  static constexpr int elements = 16 / static_cast<int>(sizeof(typename Operand::Element));
  const Operand& operand;
  typename Operand::Place places[count];
  Bytes16 held[count];

  LEPTON_DEVICE Carrier(const Operand& operand, int first_row, int product) : operand(operand) {
    LEPTON_UNROLL
    for (int index = 0; index < count; ++index) places[index] = operand.place(first_row + chunk(index) / Strip::chunks, product);
  }
  LEPTON_DEVICE static int chunk(int index) { return static_cast<int>(threadIdx.x) + index * Threads; }
  LEPTON_DEVICE static uint32_t offset(int index) {
    return Strip::offset(chunk(index) / Strip::chunks, chunk(index) % Strip::chunks * 16);
  }
  // Chunks beyond the strip are fetched inactive: their element is put outside the summed axis.
  LEPTON_DEVICE static int element(int index, int step) {
    return chunk(index) < total ? (step * Strip::chunks + chunk(index) % Strip::chunks) * elements : Operand::depth;
  }
  LEPTON_DEVICE void fetch(int step) {
    LEPTON_UNROLL
    for (int index = 0; index < count; ++index) held[index] = operand.fetch(places[index], element(index, step));
  }
  LEPTON_DEVICE void put(unsigned char* memory, uint32_t start) const {
    LEPTON_UNROLL
    for (int index = 0; index < count; ++index) store_shared(memory, start + offset(index), held[index], chunk(index) < total);
  }
  LEPTON_DEVICE void copy(unsigned char* memory, uint32_t start, int step) const {
    LEPTON_UNROLL
    for (int index = 0; index < count; ++index) {
      bool readable;
      const auto* pointer = operand.source(places[index], element(index, step), readable);
      copy_async(memory, start + offset(index), pointer, readable, chunk(index) < total);
    }
  }
};

// The block's tile: `epilogue(product, row, column, sum, inside)` for every element of it.
template <class Tile, int Rows, int Columns, class Engine, class Steps, class A, class B, class Epilogue>
LEPTON_DEVICE void contract(unsigned char* memory, Engine engine, const Steps& steps, const A& a, const B& b,
                            const Epilogue& epilogue) {
  constexpr uint32_t of_b = Tile::left_bytes, stage = Tile::stage_bytes;
  const int first_row = blockIdx.x * Tile::rows, first_column = blockIdx.y * Tile::columns, product = blockIdx.z;
  Carrier<A, Tile::rows, typename Tile::Left, Tile::threads> left(a, first_row, product);
  Carrier<B, Tile::columns, typename Tile::Right, Tile::threads> right(b, first_column, product);
  const int count = steps.count();

  if constexpr (Tile::async) {
    static_assert(A::whole && B::whole, "an asynchronous copy moves whole chunks");
    LEPTON_UNROLL
    for (int step = 0; step < Tile::stages - 1; ++step) {
      if (step < count) {
        left.copy(memory, step * stage, steps.left(step));
        right.copy(memory, step * stage + of_b, steps.right(step));
      }
      commit_copies();
    }
    for (int step = 0; step < count; ++step) {
      await_copies<Tile::stages - 2>();
      __syncthreads();  // the strip is there for all, and all have left the one that is overwritten next
      const int next = step + Tile::stages - 1;
      if (next < count) {
        left.copy(memory, next % Tile::stages * stage, steps.left(next));
        right.copy(memory, next % Tile::stages * stage + of_b, steps.right(next));
      }
      commit_copies();
      engine.multiply_strip(memory, step % Tile::stages * stage, step % Tile::stages * stage + of_b, step);
    }
    await_copies<0>();
  } else {
    if (count > 0) {
      left.fetch(steps.left(0));
      right.fetch(steps.right(0));
      left.put(memory, 0);
      right.put(memory, of_b);
      __syncthreads();  // the first strip is there for all
    }
    for (int step = 0; step < count; ++step) {
      const bool more = step + 1 < count;
      if (more) {
        left.fetch(steps.left(step + 1));
        right.fetch(steps.right(step + 1));
      }
      engine.multiply_strip(memory, step % Tile::stages * stage, step % Tile::stages * stage + of_b, step);
      if (more) {
        if constexpr (Tile::stages == 1) __syncthreads();  // all have left the strip that is overwritten
        left.put(memory, (step + 1) % Tile::stages * stage);
        right.put(memory, (step + 1) % Tile::stages * stage + of_b);
        __syncthreads();  // the next strip is there for all
      }
    }
  }
  engine.each([&](int row, int column, auto sum) {
    const int global_row = first_row + row, global_column = first_column + column;
    epilogue(product, global_row, global_column, sum, global_row < Rows && global_column < Columns);
  });
}

}  // namespace lepton

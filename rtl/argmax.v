// Index of the greatest of FOLDS * LANES signed elements, the first of equals. Latency 1 cycle after the last word;
// takes one word a cycle.
`default_nettype none

module argmax #(
    parameter ELEMENT = 8,
    parameter LANES = 1,
    parameter FOLDS = 1,
    parameter INDEX_WIDTH = 8
) (
    input  wire                     clk,
    input  wire                     rst,
    input  wire                     s_valid,
    output wire                     s_ready,
    input  wire [LANES*ELEMENT-1:0] s_data,
    output reg                      m_valid,
    input  wire                     m_ready,
    output reg  [INDEX_WIDTH-1:0]   m_data
);

    localparam FOLD_WIDTH = (FOLDS > 1) ? $clog2(FOLDS) : 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [FOLD_WIDTH-1:0] LAST_FOLD = FOLDS - 1;
    localparam [INDEX_WIDTH-1:0] STRIDE = LANES;
    /* verilator lint_on WIDTH */

    reg [FOLD_WIDTH-1:0] fold;
    reg [INDEX_WIDTH-1:0] base;
    reg signed [ELEMENT-1:0] best;
    reg [INDEX_WIDTH-1:0] best_index;

    reg [LANES*ELEMENT-1:0] value;
    reg [LANES*INDEX_WIDTH-1:0] index;
    integer stride;
    integer lane;

    // A knock-out in place: the winner of each pair moves to the pair's first lane. Only a strictly greater second
    // displaces the first, so that the first of equals wins.
    always @* begin
        value = s_data;
        for (lane = 0; lane < LANES; lane = lane + 1) index[lane*INDEX_WIDTH +: INDEX_WIDTH] = lane[INDEX_WIDTH-1:0];
        for (stride = 1; stride < LANES; stride = stride + stride)
            for (lane = 0; lane + stride < LANES; lane = lane + stride + stride)
                if ($signed(value[(lane+stride)*ELEMENT +: ELEMENT]) > $signed(value[lane*ELEMENT +: ELEMENT])) begin
                    value[lane*ELEMENT +: ELEMENT] = value[(lane+stride)*ELEMENT +: ELEMENT];
                    index[lane*INDEX_WIDTH +: INDEX_WIDTH] = index[(lane+stride)*INDEX_WIDTH +: INDEX_WIDTH];
                end
    end

    wire signed [ELEMENT-1:0] winner = value[ELEMENT-1:0];
    wire [INDEX_WIDTH-1:0] winner_index = base + index[INDEX_WIDTH-1:0];
    wire better = fold == {FOLD_WIDTH{1'b0}} || winner > best;

    wire last = fold == LAST_FOLD;
    wire free = !m_valid || m_ready;
    wire fire = s_valid && s_ready;

    assign s_ready = !last || free;

    always @(posedge clk) begin
        if (fire && better) begin
            best <= winner;
            best_index <= winner_index;
        end
        if (fire && last) m_data <= better ? winner_index : best_index;
        if (rst) m_valid <= 1'b0;
        else if (free) m_valid <= fire && last;
        if (rst) begin
            fold <= {FOLD_WIDTH{1'b0}};
            base <= {INDEX_WIDTH{1'b0}};
        end else if (fire) begin
            fold <= last ? {FOLD_WIDTH{1'b0}} : fold + 1'b1;
            base <= last ? {INDEX_WIDTH{1'b0}} : base + STRIDE;
        end
    end

endmodule

`default_nettype wire

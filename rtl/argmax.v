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

    // A knock-out: round[r] holds the winners among 2^r neighbours. Only a strictly greater second displaces the first, so that
    // the first of equals wins.
    localparam ROUNDS = $clog2(LANES);

    genvar depth, node;
    generate
        for (depth = 0; depth <= ROUNDS; depth = depth + 1) begin : round
            localparam COUNT = (LANES + (1 << depth) - 1) >> depth;

            for (node = 0; node < COUNT; node = node + 1) begin : nodes
                wire signed [ELEMENT-1:0] value;
                wire [INDEX_WIDTH-1:0] index;

                if (depth == 0) begin : given
                    assign value = s_data[node*ELEMENT +: ELEMENT];
                    assign index = node[INDEX_WIDTH-1:0];
                end else if (2*node + 1 < ((LANES + (1 << (depth - 1)) - 1) >> (depth - 1))) begin : pair
                    wire second = round[depth-1].nodes[2*node+1].value > round[depth-1].nodes[2*node].value;

                    assign value = second ? round[depth-1].nodes[2*node+1].value : round[depth-1].nodes[2*node].value;
                    assign index = second ? round[depth-1].nodes[2*node+1].index : round[depth-1].nodes[2*node].index;
                end else begin : alone
                    assign value = round[depth-1].nodes[2*node].value;
                    assign index = round[depth-1].nodes[2*node].index;
                end
            end
        end
    endgenerate

    wire signed [ELEMENT-1:0] winner = round[ROUNDS].nodes[0].value;
    wire [INDEX_WIDTH-1:0] winner_index = base + round[ROUNDS].nodes[0].index;
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

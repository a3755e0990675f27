// Each channel's window times weights of its own, plus a bias: LANES channels a step, FOLDS steps a tap, TAPS taps in the order of
// max_pool; one step a cycle. Latency 3 cycles from a fold's last tap to its sums.
`default_nettype none

module depthwise_unit #(
    parameter A_WIDTH = 8,
    parameter W_WIDTH = 8,
    parameter ACC_WIDTH = 24,
    parameter LANES = 1,
    parameter FOLDS = 1,
    parameter TAPS = 9,
    // What the products are made of: "dsp" or "lut", as signed_product takes it.
    parameter MULT = "dsp"
) (
    input  wire                                                   clk,
    input  wire                                                   rst,
    input  wire                                                   s_valid,
    output wire                                                   s_ready,
    input  wire [LANES*A_WIDTH-1:0]                               s_data,
    output wire                                                   w_en,
    output reg  [((TAPS*FOLDS > 1) ? $clog2(TAPS*FOLDS) : 1)-1:0] w_addr,
    input  wire [LANES*W_WIDTH-1:0]                               w_data,
    output wire [((FOLDS > 1) ? $clog2(FOLDS) : 1)-1:0]           b_addr,
    input  wire [LANES*ACC_WIDTH-1:0]                             b_data,
    output reg                                                    m_valid,
    input  wire                                                   m_ready,
    output reg  [LANES*ACC_WIDTH-1:0]                             m_data
);

    localparam PRODUCT = A_WIDTH + W_WIDTH;
    localparam W_ADDRESS = (TAPS*FOLDS > 1) ? $clog2(TAPS*FOLDS) : 1;
    localparam FOLD_WIDTH = (FOLDS > 1) ? $clog2(FOLDS) : 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [W_ADDRESS-1:0] LAST_STEP = TAPS*FOLDS - 1;
    localparam [W_ADDRESS:0] TAP = FOLDS;
    localparam [FOLD_WIDTH-1:0] LAST_FOLD = FOLDS - 1;
    /* verilator lint_on WIDTH */

    // Stage 0 holds the operands, stage 1 the products.
    reg [1:0] valid;
    reg [1:0] first;
    reg [1:0] last;

    // Only the step that completes a sum needs the output register.
    wire accept = !last[1] || !m_valid || m_ready;
    wire [1:0] ready = {accept || !valid[1], accept || !(&valid)};

    assign s_ready = ready[0];
    assign w_en = s_valid && s_ready;

    always @(posedge clk) begin
        if (rst) valid <= 2'b00;
        else begin
            if (ready[0]) valid[0] <= s_valid;
            if (ready[1]) valid[1] <= valid[0];
        end
        if (ready[0]) begin
            first[0] <= {1'b0, w_addr} < TAP;
            last[0] <= {1'b0, LAST_STEP - w_addr} < TAP;
        end
        if (ready[1]) begin
            first[1] <= first[0];
            last[1] <= last[0];
        end
        if (rst) w_addr <= {W_ADDRESS{1'b0}};
        else if (w_en) w_addr <= (w_addr == LAST_STEP) ? {W_ADDRESS{1'b0}} : w_addr + 1'b1;
    end

    // Accumulation. The bias memory is read in every cycle, at the fold that the next cycle will be in, so that its word is always
    // that of the step at the end of the pipeline.
    reg [FOLD_WIDTH-1:0] fold;
    wire accumulate = valid[1] && accept;
    wire complete = accumulate && last[1];
    wire [FOLD_WIDTH-1:0] following = (fold == LAST_FOLD) ? {FOLD_WIDTH{1'b0}} : fold + 1'b1;

    assign b_addr = rst ? {FOLD_WIDTH{1'b0}} : accumulate ? following : fold;

    always @(posedge clk) begin
        fold <= b_addr;
        if (rst) m_valid <= 1'b0;
        else if (!m_valid || m_ready) m_valid <= complete;
    end

    wire [LANES*ACC_WIDTH-1:0] partial;
    wire [LANES*ACC_WIDTH-1:0] total;

    genvar lane;
    generate
        for (lane = 0; lane < LANES; lane = lane + 1) begin : lanes
            reg [A_WIDTH-1:0] operand;
            // An accumulator may be narrower than a product: sums are exact modulo its width.
            /* verilator lint_off UNUSEDSIGNAL */
            reg [PRODUCT-1:0] held;
            /* verilator lint_on UNUSEDSIGNAL */
            wire [PRODUCT-1:0] product;
            wire [ACC_WIDTH-1:0] addend;

            signed_product #(.A_WIDTH(A_WIDTH), .B_WIDTH(W_WIDTH), .MULT(MULT)) multiplier (
                .a(operand), .b(w_data[lane*W_WIDTH +: W_WIDTH]), .product(product)
            );

            always @(posedge clk) begin
                if (ready[0]) operand <= s_data[lane*A_WIDTH +: A_WIDTH];
                if (ready[1]) held <= product;
            end

            if (ACC_WIDTH > PRODUCT) begin : extend
                assign addend = {{(ACC_WIDTH - PRODUCT){held[PRODUCT-1]}}, held};
            end else begin : cut
                assign addend = held[ACC_WIDTH-1:0];
            end

            assign total[lane*ACC_WIDTH +: ACC_WIDTH] =
                (first[1] ? b_data[lane*ACC_WIDTH +: ACC_WIDTH] : partial[lane*ACC_WIDTH +: ACC_WIDTH]) + addend;
        end

        if (FOLDS == 1) begin : one
            reg [LANES*ACC_WIDTH-1:0] kept;

            always @(posedge clk) if (accumulate) kept <= total;

            assign partial = kept;
        end else begin : several
            (* ram_style = "distributed", no_rw_check *) reg [LANES*ACC_WIDTH-1:0] kept [0:FOLDS-1];

            always @(posedge clk) if (accumulate) kept[fold] <= total;

            assign partial = kept[fold];
        end
    endgenerate

    always @(posedge clk) if (complete) m_data <= total;

endmodule

`default_nettype wire

// Matrix times vector plus bias, PE rows by SIMD columns a step; NF * SF steps a vector, one a cycle. A vector's SF
// words are taken in the first SF steps and kept for the later folds. Latency 4 + clog2(SIMD) cycles from the step that
// takes the last columns of PE rows to their sums, 5 + clog2(SIMD) with packed products.
`default_nettype none

module matrix_vector_unit #(
    parameter A_WIDTH = 8,
    parameter W_WIDTH = 8,
    parameter ACC_WIDTH = 24,
    parameter PE = 1,
    parameter SIMD = 1,
    parameter NF = 1,
    parameter SF = 1,
    // What the products are made of: "dsp" or "lut", as signed_product takes it; "packed" computes those of two rows with
    // one multiplier, for an even PE.
    parameter MULT = "dsp",
    // The style is read by synthesis alone, through the attribute.
    /* verilator lint_off UNUSEDPARAM */
    parameter STYLE = "distributed"
    /* verilator lint_on UNUSEDPARAM */
) (
    input  wire                                             clk,
    input  wire                                             rst,
    input  wire                                             s_valid,
    output wire                                             s_ready,
    input  wire [SIMD*A_WIDTH-1:0]                          s_data,
    output wire                                             w_en,
    output reg  [((NF*SF > 1) ? $clog2(NF*SF) : 1) - 1:0]   w_addr,
    input  wire [PE*SIMD*W_WIDTH-1:0]                       w_data,
    output wire [((NF > 1) ? $clog2(NF) : 1) - 1:0]         b_addr,
    input  wire [PE*ACC_WIDTH-1:0]                          b_data,
    output reg                                              m_valid,
    input  wire                                             m_ready,
    output reg  [PE*ACC_WIDTH-1:0]                          m_data
);

    localparam LEVELS = $clog2(SIMD);
    // Strings of different lengths are compared.
    /* verilator lint_off WIDTHEXPAND */
    localparam PACKED = (MULT == "packed") ? 1 : 0;
    /* verilator lint_on WIDTHEXPAND */
    localparam STAGES = 2 + PACKED + LEVELS;
    localparam PRODUCT = A_WIDTH + W_WIDTH;
    localparam TOTAL = PRODUCT + LEVELS;
    localparam SF_WIDTH = (SF > 1) ? $clog2(SF) : 1;
    localparam NF_WIDTH = (NF > 1) ? $clog2(NF) : 1;
    localparam W_ADDRESS = (NF*SF > 1) ? $clog2(NF*SF) : 1;
    // Constants that the parameters keep within their widths.
    /* verilator lint_off WIDTH */
    localparam [SF_WIDTH-1:0] LAST_SF = SF - 1;
    localparam [NF_WIDTH-1:0] LAST_NF = NF - 1;
    localparam [W_ADDRESS-1:0] LAST_STEP = NF*SF - 1;
    /* verilator lint_on WIDTH */

    // Stage 0 holds the operands, stage 1 the products (packed ones take a stage to part), each further stage a level of the
    // adder tree.
    reg [STAGES-1:0] valid;
    reg [STAGES-1:0] first;
    reg [STAGES-1:0] last;
    wire [STAGES-1:0] ready;

    // Only the step that completes a sum needs the output register.
    wire accept = !last[STAGES-1] || !m_valid || m_ready;

    genvar stage;
    generate
        for (stage = 0; stage < STAGES; stage = stage + 1) begin : stages
            // A stage is free when it or one behind it is empty, or when all move on.
            assign ready[stage] = accept || !(&valid[STAGES-1:stage]);

            if (stage > 0) begin : later
                always @(posedge clk) begin
                    if (rst) valid[stage] <= 1'b0;
                    else if (ready[stage]) valid[stage] <= valid[stage-1];
                    if (ready[stage]) begin
                        first[stage] <= first[stage-1];
                        last[stage] <= last[stage-1];
                    end
                end
            end
        end
    endgenerate

    // Engine: one step a cycle.
    reg [SF_WIDTH-1:0] sf;
    wire first_pass;
    wire fire = ready[0] && (!first_pass || s_valid);

    assign s_ready = ready[0] && first_pass;
    assign w_en = fire;

    always @(posedge clk) begin
        if (rst) sf <= {SF_WIDTH{1'b0}};
        else if (fire) sf <= (sf == LAST_SF) ? {SF_WIDTH{1'b0}} : sf + 1'b1;
        if (rst) w_addr <= {W_ADDRESS{1'b0}};
        else if (fire) w_addr <= (w_addr == LAST_STEP) ? {W_ADDRESS{1'b0}} : w_addr + 1'b1;
        if (rst) valid[0] <= 1'b0;
        else if (ready[0]) valid[0] <= fire;
        if (ready[0]) begin
            first[0] <= sf == {SF_WIDTH{1'b0}};
            last[0] <= sf == LAST_SF;
        end
    end

    wire [SIMD*A_WIDTH-1:0] operand;
    reg [SIMD*A_WIDTH-1:0] incoming;

    always @(posedge clk) if (ready[0]) incoming <= s_data;

    generate
        if (NF == 1) begin : single_pass
            assign first_pass = 1'b1;
            assign operand = incoming;
        end else begin : passes
            (* ram_style = STYLE, no_rw_check *) reg [SIMD*A_WIDTH-1:0] kept [0:SF-1];
            reg [SIMD*A_WIDTH-1:0] again;
            reg repeating;
            reg pass;

            // A later pass begins where the first ends; the first begins again after the last step of all.
            always @(posedge clk) begin
                if (rst) pass <= 1'b0;
                else if (fire) begin
                    if (w_addr == LAST_STEP) pass <= 1'b0;
                    else if (sf == LAST_SF) pass <= 1'b1;
                end
                if (ready[0]) repeating <= pass;
                if (fire && !pass) kept[sf] <= s_data;
                if (fire && pass) again <= kept[sf];
            end

            assign first_pass = !pass;
            assign operand = repeating ? again : incoming;
        end
    endgenerate

    // Packed products: those of two rows with one operand.
    genvar couple, column;
    generate
        for (couple = 0; couple < PACKED*PE/2; couple = couple + 1) begin : couples
            for (column = 0; column < SIMD; column = column + 1) begin : columns
                wire [W_WIDTH-1:0] lower = w_data[(2*couple*SIMD + column)*W_WIDTH +: W_WIDTH];
                wire [W_WIDTH-1:0] upper = w_data[((2*couple + 1)*SIMD + column)*W_WIDTH +: W_WIDTH];
                wire [2*PRODUCT-1:0] product;
                reg [2*PRODUCT-1:0] both;

                packed_product #(.A_WIDTH(A_WIDTH), .B_WIDTH(W_WIDTH)) multiplier (
                    .a(operand[column*A_WIDTH +: A_WIDTH]), .b({upper, lower}), .product(product)
                );

                always @(posedge clk) if (ready[1]) both <= product;
            end
        end
    endgenerate

    // Products and adder tree: level[0] holds PE * SIMD products, level[l] the sums of 2^l of them; a register a node, since a
    // simulator wakes all that read a vector whenever a part of it changes.
    genvar depth, pe, node;
    generate
        for (depth = 0; depth <= LEVELS; depth = depth + 1) begin : level
            localparam COUNT = (SIMD + (1 << depth) - 1) >> depth;
            localparam WIDTH = PRODUCT + depth;

            for (pe = 0; pe < PE; pe = pe + 1) begin : rows
                for (node = 0; node < COUNT; node = node + 1) begin : nodes
                    reg [WIDTH-1:0] held;

                    if (depth == 0) begin : multiply
                        if (PACKED == 0) begin : single
                            wire [A_WIDTH-1:0] a = operand[node*A_WIDTH +: A_WIDTH];
                            wire [W_WIDTH-1:0] w = w_data[(pe*SIMD + node)*W_WIDTH +: W_WIDTH];
                            wire [PRODUCT-1:0] product;

                            signed_product #(.A_WIDTH(A_WIDTH), .B_WIDTH(W_WIDTH), .MULT(MULT)) multiplier (
                                .a(a), .b(w), .product(product)
                            );

                            always @(posedge clk) if (ready[1]) held <= product;
                        end else if (pe % 2 == 0) begin : lower
                            always @(posedge clk) if (ready[2]) held <= couples[pe/2].columns[node].both[PRODUCT-1:0];
                        end else begin : upper
                            wire [2*PRODUCT-1:0] both = couples[pe/2].columns[node].both;

                            // A negative lower product has borrowed one from the upper.
                            always @(posedge clk)
                                if (ready[2]) held <= both[2*PRODUCT-1:PRODUCT] + {{(PRODUCT - 1){1'b0}}, both[PRODUCT-1]};
                        end
                    end else begin : add
                        localparam BEFORE = (SIMD + (1 << (depth - 1)) - 1) >> (depth - 1);
                        localparam NARROW = WIDTH - 1;

                        wire [NARROW-1:0] left = level[depth-1].rows[pe].nodes[2*node].held;

                        if (2*node + 1 < BEFORE) begin : pair
                            wire [NARROW-1:0] right = level[depth-1].rows[pe].nodes[2*node+1].held;

                            always @(posedge clk)
                                if (ready[1+PACKED+depth]) held <= {left[NARROW-1], left} + {right[NARROW-1], right};
                        end else begin : alone
                            always @(posedge clk) if (ready[1+PACKED+depth]) held <= {left[NARROW-1], left};
                        end
                    end
                end
            end
        end
    endgenerate

    // Accumulation. The bias memory is read in every cycle, at the fold that the next cycle will be in, so that its
    // word is always that of the step at the end of the pipeline.
    reg [NF_WIDTH-1:0] nf;
    wire accumulate = valid[STAGES-1] && accept;
    wire complete = accumulate && last[STAGES-1];
    wire [NF_WIDTH-1:0] following = (nf == LAST_NF) ? {NF_WIDTH{1'b0}} : nf + 1'b1;

    assign b_addr = rst ? {NF_WIDTH{1'b0}} : complete ? following : nf;

    always @(posedge clk) begin
        nf <= b_addr;
        if (rst) m_valid <= 1'b0;
        else if (!m_valid || m_ready) m_valid <= complete;
    end

    generate
        for (pe = 0; pe < PE; pe = pe + 1) begin : accumulators
            reg [ACC_WIDTH-1:0] acc;
            // An accumulator may be narrower: what lies above it is the sign.
            /* verilator lint_off UNUSEDSIGNAL */
            wire [TOTAL-1:0] sum = level[LEVELS].rows[pe].nodes[0].held;
            /* verilator lint_on UNUSEDSIGNAL */
            wire [ACC_WIDTH-1:0] addend;
            wire [ACC_WIDTH-1:0] total = (first[STAGES-1] ? b_data[pe*ACC_WIDTH +: ACC_WIDTH] : acc) + addend;

            if (ACC_WIDTH > TOTAL) begin : extend
                assign addend = {{(ACC_WIDTH - TOTAL){sum[TOTAL-1]}}, sum};
            end else begin : cut
                assign addend = sum[ACC_WIDTH-1:0];
            end

            always @(posedge clk) begin
                if (accumulate) acc <= total;
                if (complete) m_data[pe*ACC_WIDTH +: ACC_WIDTH] <= total;
            end
        end
    endgenerate

endmodule

`default_nettype wire

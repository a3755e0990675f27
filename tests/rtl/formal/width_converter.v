// A scoreboard of narrow parts around a converter of IN_LANES to OUT_LANES elements.
module properties (
    input clk, input restart, input s_valid, input [2*`IN_LANES-1:0] s_data, input m_ready
);
    reg started = 0;
    always @(posedge clk) started <= 1;
    wire rst = !started || restart;

    localparam LANES = (`IN_LANES < `OUT_LANES) ? `IN_LANES : `OUT_LANES;
    localparam UNIT = 2 * LANES;
    localparam ENTER = `IN_LANES / LANES;
    localparam LEAVE = `OUT_LANES / LANES;

    wire s_ready, m_valid;
    wire [2*`OUT_LANES-1:0] m_data;
    width_converter #(.ELEMENT(2), .IN_LANES(`IN_LANES), .OUT_LANES(`OUT_LANES)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data)
    );

    wire tagged;
    wire [UNIT-1:0] unit;
    wire [3:0] inside, ahead;
    // A wide word is collected beside the one that waits to leave, and parted from the part that does.
    scoreboard #(
        .UNIT(UNIT), .ENTER(ENTER), .LEAVE(LEAVE), .CAPACITY((LEAVE > 1) ? 2 * LEAVE - 1 : ENTER)
    ) board (
        .clk(clk), .rst(rst), .enter(s_valid && s_ready), .entering(s_data),
        .valid(m_valid), .ready(m_ready), .leaving(m_data),
        .inside(inside), .tagged(tagged), .unit(unit), .ahead(ahead)
    );

    // It takes a word unless another wide one would wait beside the one that is not being taken.
    always @* if (!rst) assert (s_ready || inside + !m_ready >= 2 * LEAVE);

`ifdef INDUCTION
    // Yosys gives the branch of an else-if a scope of its own.
`ifdef UP
    (* hierconn *) wire [$clog2(LEAVE)-1:0] \dut.genblk1.up.part ;
    (* hierconn *) wire [(LEAVE-1)*UNIT-1:0] \dut.genblk1.up.collected ;
    wire [3:0] left = m_valid ? LEAVE : 0;
    // Parts are shifted in from above.
    wire [3:0] place = LEAVE - 1 - \dut.genblk1.up.part + ahead - left;

    always @* if (!rst) begin
        assert (\dut.genblk1.up.part < LEAVE && inside == \dut.genblk1.up.part + left);
        if (tagged && ahead < left) assert (m_data[ahead*UNIT +: UNIT] == unit);
        else if (tagged) assert (\dut.genblk1.up.collected [place*UNIT +: UNIT] == unit);
    end
`endif
`ifdef DOWN
    (* hierconn *) wire [$clog2(ENTER)-1:0] \dut.genblk1.down.part ;
    (* hierconn *) wire [(ENTER-1)*UNIT-1:0] \dut.genblk1.down.held ;
    wire [3:0] kept = (\dut.genblk1.down.part == 0) ? 0 : ENTER - \dut.genblk1.down.part ;
    wire [3:0] place = ahead - m_valid;

    always @* if (!rst) begin
        assert (\dut.genblk1.down.part < ENTER && inside == kept + m_valid);
        if (tagged && m_valid && ahead == 0) assert (m_data == unit);
        else if (tagged) assert (\dut.genblk1.down.held [place*UNIT +: UNIT] == unit);
    end
`endif
`ifdef SAME
    always @* if (!rst) begin
        assert (inside == m_valid);
        assert (!tagged || m_data == unit);
    end
`endif
`endif
endmodule

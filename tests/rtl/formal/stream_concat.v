// A scoreboard for each of two streams: A_WORDS beats that come out are the first's, the next B_WORDS the second's, and again.
module properties (
    input clk, input restart, input a_valid, input [1:0] a_data, input b_valid, input [1:0] b_data, input m_ready
);
    reg started = 0;
    always @(posedge clk) started <= 1;
    wire rst = !started || restart;

    wire a_ready, b_ready, m_valid;
    wire [1:0] m_data;
    stream_concat #(.WIDTH(2), .A_WORDS(`A_WORDS), .B_WORDS(`B_WORDS)) dut (
        .clk(clk), .rst(rst), .a_valid(a_valid), .a_ready(a_ready), .a_data(a_data),
        .b_valid(b_valid), .b_ready(b_ready), .b_data(b_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data)
    );

    // Place of the next beat that leaves in its round.
    reg [3:0] turn;
    always @(posedge clk)
        if (rst) turn <= 0;
        else if (m_valid && m_ready) turn <= (turn == `A_WORDS + `B_WORDS - 1) ? 0 : turn + 1;
    wire [1:0] due = {turn >= `A_WORDS, turn < `A_WORDS};

    wire [1:0] tagged;
    wire [3:0] unit;
    wire [7:0] inside, ahead;
    scoreboard #(.UNIT(2), .CAPACITY(1)) boards [1:0] (
        .clk(clk), .rst(rst), .enter({b_valid && b_ready, a_valid && a_ready}), .entering({b_data, a_data}),
        .valid({2{m_valid}} & due), .ready({2{m_ready}}), .leaving({2{m_data}}),
        .inside(inside), .tagged(tagged), .unit(unit), .ahead(ahead)
    );

    // One stream at a time is taken, whenever there is room.
    always @* if (!rst) assert ((a_ready ^ b_ready) == (!m_valid || m_ready) && !(a_ready && b_ready));

`ifdef INDUCTION
    (* hierconn *) wire \dut.second ;
    localparam LONGER = (`A_WORDS > `B_WORDS) ? `A_WORDS : `B_WORDS;
    (* hierconn *) wire [((LONGER > 1) ? $clog2(LONGER) : 1)-1:0] \dut.word ;
    wire [3:0] next = \dut.second ? `A_WORDS + \dut.word : \dut.word ;

    always @* if (!rst) begin
        assert (turn < `A_WORDS + `B_WORDS);
        assert (\dut.word < (\dut.second ? `B_WORDS : `A_WORDS));
        assert (next == (turn + m_valid) % (`A_WORDS + `B_WORDS));
        assert (inside[3:0] == (m_valid && due[0]) && inside[7:4] == (m_valid && due[1]));
        assert (!tagged[0] || m_data == unit[1:0]);
        assert (!tagged[1] || m_data == unit[3:2]);
    end
`endif
endmodule

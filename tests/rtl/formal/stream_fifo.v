// A scoreboard around a FIFO of DEPTH words, in block memory with BLOCK.
module properties (input clk, input restart, input s_valid, input [1:0] s_data, input m_ready);
    reg started = 0;
    always @(posedge clk) started <= 1;
    wire rst = !started || restart;

`ifdef BLOCK
    localparam FETCHED = (`DEPTH > 1) ? 1 : 0;
    localparam STYLE = "block";
`else
    localparam FETCHED = 0;
    localparam STYLE = "distributed";
`endif

    wire s_ready, m_valid;
    wire [1:0] m_data;
    stream_fifo #(.WIDTH(2), .DEPTH(`DEPTH), .STYLE(STYLE)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data),
        .m_valid(m_valid), .m_ready(m_ready), .m_data(m_data)
    );

    wire tagged;
    wire [1:0] unit;
    wire [3:0] inside, ahead;
    scoreboard #(.UNIT(2), .CAPACITY(`DEPTH + FETCHED), .PATIENCE(FETCHED)) board (
        .clk(clk), .rst(rst), .enter(s_valid && s_ready), .entering(s_data),
        .valid(m_valid), .ready(m_ready), .leaving(m_data),
        .inside(inside), .tagged(tagged), .unit(unit), .ahead(ahead)
    );

    // It takes what it has room for.
    always @* if (!rst) assert (s_ready || inside >= `DEPTH);

`ifdef INDUCTION
    (* hierconn *) wire [$clog2(`DEPTH + 1)-1:0] \dut.count ;
`ifdef BLOCK
    wire fetched = FETCHED && m_valid;
`else
    wire fetched = 0;
`endif
    // Place of the followed word in the memory; FETCHED words have left it.
    wire [3:0] behind = ahead - fetched;

    always @* if (!rst) assert (\dut.count <= `DEPTH && inside == \dut.count + fetched);

    generate
        if (`DEPTH == 1) begin
            always @* if (!rst) assert (!tagged || m_data == unit);
        end
    endgenerate

`ifdef SEVERAL
    (* hierconn *) wire [$clog2(`DEPTH)-1:0] \dut.words.head ;
    (* hierconn *) wire [$clog2(`DEPTH)-1:0] \dut.words.tail ;
    (* hierconn *) wire [1:0] \dut.words.memory[0] ;
    (* hierconn *) wire [1:0] \dut.words.memory[1] ;
    (* hierconn *) wire [1:0] \dut.words.memory[2] ;
    (* hierconn *) wire [1:0] \dut.words.memory[3] ;
    (* hierconn *) wire [1:0] \dut.words.memory[4] ;
    wire [9:0] memory = {
        \dut.words.memory[4] , \dut.words.memory[3] , \dut.words.memory[2] , \dut.words.memory[1] , \dut.words.memory[0]
    };
    wire [3:0] place = (\dut.words.head + behind) % `DEPTH;

    always @* if (!rst) begin
        assert (\dut.words.head < `DEPTH && \dut.words.tail < `DEPTH);
        assert (\dut.words.tail == (\dut.words.head + \dut.count ) % `DEPTH);
        if (tagged && fetched && ahead == 0) assert (m_data == unit);
        else if (tagged) assert (memory[2*place +: 2] == unit);
    end
`endif
`endif
endmodule

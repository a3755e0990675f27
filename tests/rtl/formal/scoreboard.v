// Follows any one unit, picked at any moment, from where it enters a module to where it leaves: it comes out once, unchanged, and
// in its turn, which is when all that were inside before it have left. What holds for a unit picked freely holds for every unit.
//
// A beat brings ENTER units of UNIT bits and takes LEAVE units away; unit 0 is in the least significant bits and the earliest.
// No more than CAPACITY are inside, and a beat that could leave is offered after at most PATIENCE cycles. With INDUCTION the
// invariants that make the proof unbounded are asserted too.
`default_nettype none

module scoreboard #(
    parameter UNIT = 2,
    parameter ENTER = 1,
    parameter LEAVE = 1,
    parameter CAPACITY = 1,
    parameter PATIENCE = 0
) (
    input  wire                  clk,
    input  wire                  rst,
    input  wire                  enter,
    input  wire [ENTER*UNIT-1:0] entering,
    input  wire                  valid,
    input  wire                  ready,
    input  wire [LEAVE*UNIT-1:0] leaving,
    // Units that have entered and not left.
    output reg  [3:0]            inside,
    // Whether a unit is being followed, its value, and the units that must leave before it.
    output reg                   tagged,
    output reg  [UNIT-1:0]       unit,
    output reg  [3:0]            ahead
);

    wire leave = valid && ready;
    wire [3:0] remaining = inside - (leave ? LEAVE : 0);
    wire out_now = tagged && ahead < LEAVE;

    (* anyseq *) reg pick;
    (* anyseq *) reg [3:0] place;

    reg stalled;
    reg [LEAVE*UNIT-1:0] offered;
    reg [3:0] waiting;

    always @(posedge clk) begin
        inside <= rst ? 0 : remaining + (enter ? ENTER : 0);

        if (rst) tagged <= 0;
        else if (!tagged && enter && pick && place < ENTER) begin
            tagged <= 1;
            unit <= entering[place*UNIT +: UNIT];
            ahead <= remaining + place;
        end else if (leave) begin
            if (out_now) tagged <= 0;
            ahead <= ahead - LEAVE;
        end

        stalled <= !rst && valid && !ready;
        offered <= leaving;
        waiting <= (rst || valid || inside < LEAVE) ? 0 : waiting + 1;
    end

    always @* if (!rst) begin
        assert (inside <= CAPACITY);
        // Nothing leaves that has not entered.
        assert (!valid || inside >= LEAVE);
        // Nothing is lost, changed or out of order.
        assert (!valid || !out_now || leaving[ahead*UNIT +: UNIT] == unit);
        // What has been offered stays until it is taken.
        assert (!stalled || (valid && leaving == offered));
        // Nothing stays inside for ever.
        assert (valid || inside < LEAVE || waiting < PATIENCE);
    end

`ifdef INDUCTION
    always @* if (!rst) begin
        assert (!tagged || ahead < inside);
        assert (waiting <= PATIENCE);
    end
`endif

endmodule

`default_nettype wire

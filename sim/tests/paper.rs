//! The quick set of the papers' figures lies within its bands.
use sim::paper::{Size, figures};

#[test]
fn the_papers_figures_come_out_of_the_shipped_core() {
    for figure in figures(Size::Quick, "") {
        println!("{}", figure.markdown("paper"));
        assert!(figure.outside.is_empty(), "{:#?}", figure.outside);
    }
}

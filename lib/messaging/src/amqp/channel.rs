//! Opening channels, of which a connection has no endless number.
//!
//! Start at [`open`]. lapin (4.12.3) keeps the error with which the broker closed a channel under the channel's number,
//! and answers with it whoever opens a channel of that number again; numbers come round after 2,047. So a connection
//! can lose so many channels in all, and must not take the answer to an old question for one to its own.

use lapin::{Channel, Connection, Error, ErrorKind};

use super::connection::Ending;
use super::convert;

/// Opens a channel. Where no number is left the connection counts as ended, so that its owner makes a new one.
pub(super) async fn open(connection: &Connection, ending: &Ending) -> Result<Channel, Error> {
    loop {
        match connection.create_channel().await {
            // Opening is refused to nobody: this is what became of the last channel of that number.
            Err(error) if convert::soft_error(&error).is_some() => {}
            Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => {
                ending.reach("no channel is left on this connection");
                return Err(error);
            }
            opened => return opened,
        }
    }
}

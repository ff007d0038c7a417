//! The ids of rides, offers and drivers.

use tessera_kernel::typed_id;

typed_id!(
    /// A ride, from its estimate on.
    RideId = "ride"
);
typed_id!(
    /// An offer of a ride to a driver.
    OfferId = "offer"
);
typed_id!(
    /// A driver. Made from the subject of the token, so that a driver exists from the first one on.
    DriverId = "driver"
);

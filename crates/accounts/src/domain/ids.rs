//! The ids of users, sessions and programs.

use tessera_kernel::typed_id;

typed_id!(
    /// Who signs in. The text of the id is the subject of their tokens.
    UserId = "user"
);
typed_id!(
    /// What begins with a sign-in.
    SessionId = "session"
);
typed_id!(
    /// A program with tokens of its own.
    ClientId = "client"
);

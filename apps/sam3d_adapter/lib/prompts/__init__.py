"""What a user says of a structure: clicks, a box, a mask to start from; and what each viewer sends."""

"""Operations: a plain reference beside each fast twin, with one signature."""
